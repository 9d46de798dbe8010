//! `cargo xtask inf`: checks the driver package's INF, stamped for both processors.

use std::fs;

use anyhow::{Context, Result, bail};
use inf::{Stamp, lint, stamp};

use crate::project;

/// The framework's version, as the driver's manifest says it.
const KMDF: &str = "1.33";

/// Prints what is wrong with the INF.
///
/// # Errors
/// Something is.
pub fn run() -> Result<()> {
    let path = project::root().join("inf/dmacard.inx");
    let template =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut faulty = false;
    for architecture in ["amd64", "arm64"] {
        let stamped = stamp(
            &template,
            Stamp {
                architecture,
                kmdf: KMDF,
                driver_ver: "01/01/2026,0.1.0.0",
            },
        );
        for fault in lint(&stamped) {
            faulty = true;
            eprintln!("inf/dmacard.inx for {architecture}: {fault}");
        }
    }
    if faulty {
        bail!("the INF would not pass");
    }
    eprintln!("inf/dmacard.inx: no faults found");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_framework_is_the_manifests() {
        let manifest = include_str!("../../../Cargo.toml");
        let (major, minor) = KMDF.split_once('.').unwrap();
        assert!(manifest.contains(&format!("\nkmdf-version-major = {major}\n")));
        assert!(manifest.contains(&format!("\ntarget-kmdf-version-minor = {minor}\n")));
    }

    #[test]
    fn the_drivers_inf_passes() {
        run().unwrap();
    }
}
