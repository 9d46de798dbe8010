//! Safe Rust over the KMDF objects that a DMA driver uses.
#![no_std]
