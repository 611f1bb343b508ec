//! sd_notify(3) for containers: a socket of ours inside, relayed to the service manager's outside.
