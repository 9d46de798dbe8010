//! What the driver, its devices and dmatest share: register maps, IOCTLs, GUIDs.
#![no_std]
