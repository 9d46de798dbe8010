//! Tells cargo how a KMDF driver is linked; everything it says comes from the WDK by way of wdk-build.

fn main() -> Result<(), wdk_build::ConfigError> {
    wdk_build::configure_wdk_binary_build()
}
