//! Windows kernel and KMDF types, generated from the headers the driver is built with.
