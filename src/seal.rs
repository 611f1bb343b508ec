//! The sealed executable (CVE-2019-5736).
