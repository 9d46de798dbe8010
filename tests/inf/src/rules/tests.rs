//! The driver's own INF passes; each rule is broken once.

use super::*;
use crate::{Stamp, stamp};

/// The driver's INF, stamped.
fn ours() -> String {
    stamp(
        include_str!("../../../../inf/dmacard.inx"),
        Stamp {
            architecture: "amd64",
            kmdf: "1.33",
            driver_ver: "11/21/2026,0.1.0.0",
        },
    )
}

/// The numbers of the faults when `from` is written `to`.
fn broken(from: &str, to: &str) -> Vec<u16> {
    let inf = ours();
    assert!(inf.contains(from), "the INF no longer says {from}");
    let faults = lint(&inf.replace(from, to));
    let codes: BTreeSet<u16> = faults.iter().map(|fault| fault.code).collect();
    codes.into_iter().collect()
}

#[test]
fn the_drivers_inf_passes() {
    for architecture in ["amd64", "arm64"] {
        let inf = ours().replace("amd64", architecture);
        assert_eq!(lint(&inf), []);
    }
}

/// Not rules of InfVerif: what this driver's package is to say.
#[test]
fn the_drivers_inf_says_what_the_driver_needs() {
    let inf = Inf::parse(&ours()).unwrap();
    let model = models(&inf).next().unwrap();
    assert_eq!(model.value(1), r"PCI\VEN_1234&DEV_11E8");
    let (section, _) = models_sections(&inf).next().unwrap();
    assert_eq!(
        section, "Models.NTamd64.10.0...22000",
        "Windows 11, for KMDF 1.33"
    );
    assert_eq!(
        inf.value("Card_Framework", "KmdfLibraryVersion"),
        Some("1.33")
    );

    let values: Vec<_> = added(&inf, |_| true)
        .map(|line| &line.values[1..])
        .collect();
    for wanted in [
        ["DMA Management", "RemappingSupported", "0x00010001", "1"],
        ["Parameters", "DmaRemappingCompatible", "0x00010001", "1"],
        [
            r"Interrupt Management\MessageSignaledInterruptProperties",
            "MSISupported",
            "0x00010001",
            "1",
        ],
        ["", "Security", "", "D:P(A;;GA;;;SY)(A;;GA;;;BA)"],
    ] {
        assert!(
            values.contains(&wanted.map(String::from).as_slice()),
            "{wanted:?}"
        );
    }
}

#[test]
fn a_fault_says_where() {
    let inf = ours().replace("PnpLockdown = 1", "");
    let line = 1 + inf.lines().position(|line| line == "[Version]").unwrap();
    let faults = lint(&inf);
    assert_eq!(
        faults[0].to_string(),
        format!("line {line}: PnpLockdown is not 1 (1324)")
    );
}

#[test]
fn syntax() {
    assert_eq!(broken("[Version]", "[Version"), [1001]);
}

#[test]
fn templates() {
    assert_eq!(broken("= 1.33", "= $KMDFVERSION$"), [1274]);
    assert_eq!(broken("NTamd64", "NT$ARCH$"), [1274]);
}

#[test]
fn strings() {
    assert_eq!(broken("Service      =", "Svc ="), [1235]);
}

#[test]
fn version() {
    assert_eq!(broken("$WINDOWS NT$", "$CHICAGO$"), [1233]);
    assert_eq!(broken("\"The dmacard developers\"", "Microsoft"), [1204]);
    assert_eq!(broken("CatalogFile = dmacard.cat", ""), [1233]);
    assert_eq!(broken("11/21/2026", "21/11/2026"), [1217]);
    assert_eq!(broken("0.1.0.0", "0.1.0"), [1217]);
    assert_eq!(broken("PnpLockdown = 1", "PnpLockdown = 0"), [1324]);
}

#[test]
fn class() {
    assert_eq!(broken("= DmaCard", "= Sample"), [1284]);
    assert_eq!(broken("= DmaCard", "="), [1233]);
    let inf = ours();
    let guid = Inf::parse(&inf)
        .unwrap()
        .value("Version", "ClassGuid")
        .unwrap()
        .to_owned();
    assert_eq!(
        broken(&guid, "{4d36e97d-e325-11ce-bfc1-08002be10318}"),
        [1285]
    );
}

#[test]
fn missing_sections() {
    assert_eq!(broken("[Card_Interrupts]", "[Card_Messages]"), [1203, 2083]);
    assert_eq!(broken("= Card_Install,", "= Install,"), [1203, 2083]);
    assert_eq!(broken("= Models,", "= Cards,"), [1203, 2083]);
    assert_eq!(
        broken("dmacard,Card_Framework", "dmacard,Framework"),
        [1203, 2083]
    );
}

#[test]
fn unused_sections() {
    assert_eq!(broken("[Strings]", "[Spare]\nx=1\n[Strings]"), [2083]);
}

#[test]
fn services() {
    assert_eq!(broken("dmacard,0x00000002,", "dmacard,0,"), [1296]);
    assert_eq!(
        broken("[Card_Install.NT.Services]", "[Card_Install.NT.Software]"),
        [1296]
    );
}

#[test]
fn sources() {
    assert_eq!(broken("dmacard.sys = 1", "other.sys = 1"), [1230]);
    assert_eq!(
        broken(
            "[Card_Files]\ndmacard.sys",
            "[Card_Files]\ndmacard.sys,d.sys"
        ),
        [1100]
    );
    assert_eq!(
        broken("CopyFiles = Card_Files", "CopyFiles = @lost.sys"),
        [1230, 2083]
    );
}

#[test]
fn directories() {
    assert_eq!(broken("DefaultDestDir = 13", "DefaultDestDir = 12"), [1322]);
    assert_eq!(broken(r"%13%\dmacard", r"%12%\dmacard"), [1322]);
}

#[test]
fn registry_roots() {
    assert_eq!(
        broken("HKR,\"DMA Management\"", "HKLM,\"DMA Management\""),
        [1320]
    );
}

#[test]
fn service_keys() {
    assert_eq!(broken("HKR,Parameters,", "HKR,,"), [1323]);
}

#[test]
fn legacy() {
    let section = "[Card_Install.NT.CoInstallers]\n[Strings]";
    assert_eq!(broken("[Strings]", section), [1300, 2083]);
    assert_eq!(
        broken("CopyFiles =", "DelFiles = Card_Files\nCopyFiles ="),
        [1302]
    );
    let value = "HKR,,CoInstallers32,0x00010000,x.dll\n[Strings]";
    assert_eq!(
        broken("[Strings]", &format!("[Card_Security]\n{value}")),
        [1303]
    );
}
