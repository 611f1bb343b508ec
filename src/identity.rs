//! Who the program is: ids, groups, capabilities, no_new_privs, session keyring.
