//! Words in, words out: one arm per command.
