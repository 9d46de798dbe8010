//! DMA below the framework, with version 3 of DMA_OPERATIONS: packets and common buffers through the system DMA controller,
//! and lists on an adapter without scatter/gather hardware; then each rule of docs/requirements.md (R105 to R110) broken.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/wdm.rs"]
#[expect(dead_code, reason = "the driver of the PnP tests can do more")]
mod wdm;

mod driver;
mod transfers;
mod violations;

use std::process::ExitCode;

use harness::Suite;

fn main() -> ExitCode {
    violations::add(transfers::add(Suite::new())).main()
}
