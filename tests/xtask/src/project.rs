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
    target_or(root().join("target")).join("driver")
}

/// The builds of the tests' workspace.
pub fn tests_target() -> PathBuf {
    target_or(tests().join("target"))
}

/// What the demo sends by default: the primes below 200,000, so that no two pages are alike.
pub fn sample() -> PathBuf {
    tests().join("dmatest/data/primes.txt")
}

fn target_or(default: PathBuf) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or(default, |target| root().join(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_takes_many_transfers() {
        assert!(sample().metadata().unwrap().len() > 100_000);
    }
}
