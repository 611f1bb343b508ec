//! The container's network devices: loopback up, host devices moved in.
