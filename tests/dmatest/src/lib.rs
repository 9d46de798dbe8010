//! The user-mode program: the same code on Windows and on the machine.
