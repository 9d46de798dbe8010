//! DMA: enablers, transactions, common buffers (`src/framework/kmdf/src/dma/base`).
//!
//! The hardware abstraction layer is reached through an adapter's table of operations alone ([`adapter`]).

pub(crate) mod adapter;
pub(crate) mod common_buffer;
pub(crate) mod enabler;
pub(crate) mod enabler_api;
mod geometry;
mod packet;
mod reserve;
mod scatter_gather;
mod single;
mod system;
pub(crate) mod system_api;
mod system_enabler;
pub(crate) mod transaction;
pub(crate) mod transaction_api;
