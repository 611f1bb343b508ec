//! The program: its environment, where it is found, and how it is executed.
