//! Ids, groups, capabilities, keyrings.
