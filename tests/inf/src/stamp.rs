//! What stampinf makes of a template.

/// What a template leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// The processor: `amd64` or `arm64`.
    pub architecture: &'a str,
    /// The framework's version, `1.33`.
    pub kmdf: &'a str,
    /// Date and version of the driver, `MM/DD/YYYY,W.X.Y.Z`.
    pub driver_ver: &'a str,
}

/// The INF that `stampinf -a ARCHITECTURE -k KMDF -d DATE -v VERSION` makes of `template`.
#[must_use]
pub fn stamp(template: &str, stamp: Stamp<'_>) -> String {
    let is_driver_ver = |line: &str| {
        let key = line.split_once('=').map(|(key, _)| key.trim());
        key.is_some_and(|key| key.eq_ignore_ascii_case("DriverVer"))
    };
    let lines = template.lines().map(|line| match is_driver_ver(line) {
        true => format!("DriverVer = {}\n", stamp.driver_ver),
        false => format!("{line}\n"),
    });
    lines
        .collect::<String>()
        .replace("$ARCH$", stamp.architecture)
        .replace("$KMDFVERSION$", stamp.kmdf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_are_put_in() {
        let template =
            "[Version]\ndriverver = x\n[M.NT$ARCH$.10.0]\nKmdfLibraryVersion = $KMDFVERSION$\n";
        let stamped = stamp(
            template,
            Stamp {
                architecture: "arm64",
                kmdf: "1.33",
                driver_ver: "11/21/2026,1.2.3.4",
            },
        );
        assert_eq!(
            stamped,
            "[Version]\nDriverVer = 11/21/2026,1.2.3.4\n[M.NTarm64.10.0]\nKmdfLibraryVersion = 1.33\n"
        );
    }
}
