//! Loads the driver's PE image and traps its register accesses.
