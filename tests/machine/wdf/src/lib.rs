//! The framework: KMDF 1.33 as its published source behaves, on the kernel's routines alone.
