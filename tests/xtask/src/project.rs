//! Where things are.

use std::{env, path::PathBuf};

/// The repository: the driver's workspace.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(PathBuf::from).unwrap_or(here)
}

/// The workspace of everything that exercises the driver.
pub fn tests() -> PathBuf {
    root().join("tests")
}

/// What the Linux build of the driver needs instead of the WDK.
pub fn wdk() -> PathBuf {
    tests().join("wdk")
}

/// The driver's builds. Apart from the other workspace's, which another compiler makes.
pub fn driver_target() -> PathBuf {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    root().join(target).join("driver")
}
