//! A linter for driver INFs: the part of Microsoft's InfVerif rules that a PCI driver's INF can break.
//!
//! This is not InfVerif, which runs on Windows alone. The numbers are those that Microsoft's page "INF validation errors
//! and warnings" gives to the same faults, so that one can look them up; what runs there may find more.

use std::{collections::BTreeSet, fmt};

use crate::{Inf, Line, Section, SyntaxError};

/// Something that InfVerif refuses or warns of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where, from 1; 0 if something is missing altogether.
    pub line: usize,
    /// InfVerif's number of it.
    pub code: u16,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {} ({})", self.line, self.what, self.code)
    }
}

impl From<SyntaxError> for Fault {
    fn from(error: SyntaxError) -> Self {
        fault(error.line, 1001, error.what)
    }
}

fn fault(line: usize, code: u16, what: impl Into<String>) -> Fault {
    let what = what.into();
    Fault { line, code, what }
}

/// Checks a stamped INF: all rules, as `infverif /w` would, with isolation.
#[must_use]
pub fn lint(text: &str) -> Vec<Fault> {
    const RULES: [fn(&Inf) -> Vec<Fault>; 12] = [
        templates_are_filled_in,
        strings_are_defined,
        version_is_complete,
        class_is_ours,
        sections_exist,
        sections_are_used,
        services_are_associated,
        files_have_a_source,
        files_stay_in_the_driver_store,
        registry_is_relative,
        service_values_are_parameters,
        nothing_is_legacy,
    ];
    let inf = match Inf::parse(text) {
        Ok(inf) => inf,
        Err(error) => return vec![error.into()],
    };
    let mut faults: Vec<Fault> = RULES.iter().flat_map(|rule| rule(&inf)).collect();
    faults.sort();
    faults.dedup();
    faults
}

/// A directive whose values name sections.
struct Directive {
    key: &'static str,
    /// Which of the values do; from there on for those that take a list.
    from: usize,
    list: bool,
}

const DIRECTIVES: [Directive; 6] = [
    Directive {
        key: "AddReg",
        from: 0,
        list: true,
    },
    Directive {
        key: "DelReg",
        from: 0,
        list: true,
    },
    Directive {
        key: "CopyFiles",
        from: 0,
        list: true,
    },
    Directive {
        key: "DelFiles",
        from: 0,
        list: true,
    },
    Directive {
        key: "AddService",
        from: 2,
        list: true,
    },
    Directive {
        key: "KmdfService",
        from: 1,
        list: false,
    },
];

/// Sections that Windows looks for by name.
const KNOWN: [&str; 7] = [
    "Version",
    "ClassInstall32",
    "DestinationDirs",
    "SourceDisksNames",
    "SourceDisksFiles",
    "Manufacturer",
    "Strings",
];

/// What may stand behind the name of an install section.
const EXTENSIONS: [&str; 7] = [
    "",
    ".HW",
    ".Services",
    ".Wdf",
    ".Interfaces",
    ".Software",
    ".Components",
];

/// All lines, with their sections.
fn all_lines(inf: &Inf) -> impl Iterator<Item = (&Section, &Line)> {
    inf.sections()
        .flat_map(|section| section.lines.iter().map(move |line| (section, line)))
}

/// The lines of the models sections, over all manufacturers and decorations.
fn models(inf: &Inf) -> impl Iterator<Item = &Line> {
    models_sections(inf).flat_map(|(name, _)| inf.lines(&name))
}

/// The names of the models sections, each with the line that names it.
fn models_sections(inf: &Inf) -> impl Iterator<Item = (String, &Line)> {
    inf.lines("Manufacturer").iter().flat_map(|line| {
        let decorations = line.values.iter().skip(1);
        let decorated =
            decorations.map(move |decoration| format!("{}.{decoration}", line.value(0)));
        let plain = (line.values.len() < 2).then(|| line.value(0).to_owned());
        plain
            .into_iter()
            .chain(decorated)
            .map(move |name| (name, line))
    })
}

/// The decorated forms of an install section that exist.
fn installs<'a>(inf: &'a Inf, model: &Line) -> impl Iterator<Item = &'a Section> + use<'a> {
    let name = model.value(0).to_owned();
    ["", ".NT", ".NTamd64", ".NTarm64"]
        .into_iter()
        .filter_map(move |decoration| inf.section(&format!("{name}{decoration}")))
}

/// The sections that the lines of any section name by a directive, with the line.
fn named(inf: &Inf) -> impl Iterator<Item = (&str, &Line)> {
    all_lines(inf).flat_map(|(_, line)| {
        let directive = DIRECTIVES.iter().find(|directive| line.is(directive.key));
        directive.into_iter().flat_map(move |directive| {
            let length = if directive.list { usize::MAX } else { 1 };
            let names = line.values.iter().skip(directive.from).take(length);
            // A file itself, and an optional section left out.
            let names = names.filter(|name| !name.starts_with('@') && !name.is_empty());
            names.map(move |name| (name.as_str(), line))
        })
    })
}

/// 1274: what stampinf puts in has been put in.
fn templates_are_filled_in(inf: &Inf) -> Vec<Fault> {
    let left = |text: &str| text.contains("$ARCH$") || text.contains("$KMDFVERSION$");
    let sections = inf.sections().filter(|section| left(&section.name));
    let sections = sections.map(|section| (section.number, section.name.clone()));
    let lines = all_lines(inf).filter(|(_, line)| line.values.iter().any(|value| left(value)));
    let lines = lines.map(|(_, line)| (line.number, line.values.join(",")));
    sections
        .chain(lines)
        .map(|(number, text)| fault(number, 1274, format!("{text} is not stamped")))
        .collect()
}

/// 1235: each `%string%` is defined.
fn strings_are_defined(inf: &Inf) -> Vec<Fault> {
    all_lines(inf)
        .flat_map(|(_, line)| {
            std::iter::once(&line.key)
                .chain(&line.values)
                .map(move |text| (line, text))
        })
        .filter_map(|(line, text)| {
            let error = inf.expand(text).err()?;
            Some(fault(line.number, 1235, error.to_string()))
        })
        .collect()
}

/// 1204, 1217, 1233, 1324: the Version section says who, when, which catalog, and that files are protected.
fn version_is_complete(inf: &Inf) -> Vec<Fault> {
    let number = inf.section("Version").map_or(0, |section| section.number);
    let value = |key| inf.value("Version", key).unwrap_or_default();
    let mut faults = Vec::new();
    if !value("Signature").eq_ignore_ascii_case("$WINDOWS NT$") {
        faults.push(fault(number, 1233, "Signature is not \"$WINDOWS NT$\""));
    }
    let provider = inf.expand(value("Provider")).unwrap_or_default();
    if provider.is_empty() || provider.eq_ignore_ascii_case("Microsoft") {
        faults.push(fault(number, 1204, "Provider is missing, or Microsoft"));
    }
    if !value("CatalogFile").to_ascii_lowercase().ends_with(".cat") {
        faults.push(fault(
            number,
            1233,
            "no CatalogFile: the package cannot be signed",
        ));
    }
    let driver_ver = inf
        .lines("Version")
        .iter()
        .find(|line| line.is("DriverVer"));
    if !driver_ver.is_some_and(|line| is_date(line.value(0)) && is_version(line.value(1))) {
        faults.push(fault(number, 1217, "DriverVer is not MM/DD/YYYY,W.X.Y.Z"));
    }
    if value("PnpLockdown") != "1" {
        faults.push(fault(number, 1324, "PnpLockdown is not 1"));
    }
    faults
}

fn is_date(text: &str) -> bool {
    let numbers: Vec<Option<u16>> = text.split('/').map(|number| number.parse().ok()).collect();
    matches!(numbers[..], [Some(1..=12), Some(1..=31), Some(1601..)])
}

fn is_version(text: &str) -> bool {
    let numbers: Vec<Option<u16>> = text.split('.').map(|number| number.parse().ok()).collect();
    numbers.len() == 4 && !numbers.contains(&None)
}

/// 1284, 1285: a class that is not Microsoft's samples', nor one of Microsoft's defined anew.
fn class_is_ours(inf: &Inf) -> Vec<Fault> {
    /// The end that Windows' own setup classes of the first years share.
    const MICROSOFT: &str = "-e325-11ce-bfc1-08002be10318}";
    let number = inf.section("Version").map_or(0, |section| section.number);
    let class = inf.value("Version", "Class").unwrap_or_default();
    let guid = inf.value("Version", "ClassGuid").unwrap_or_default();
    let mut faults = Vec::new();
    if class.is_empty() || guid.is_empty() {
        faults.push(fault(number, 1233, "Class or ClassGuid is missing"));
    }
    if class.eq_ignore_ascii_case("Sample") {
        faults.push(fault(
            number,
            1284,
            "class Sample is for Microsoft's samples",
        ));
    }
    if let Some(section) = inf.section("ClassInstall32")
        && guid.to_ascii_lowercase().ends_with(MICROSOFT)
    {
        faults.push(fault(
            section.number,
            1285,
            "ClassInstall32 for one of Microsoft's classes",
        ));
    }
    faults
}

/// 1203: each section that is named exists.
fn sections_exist(inf: &Inf) -> Vec<Fault> {
    let missing =
        |name: &str, line: &Line| fault(line.number, 1203, format!("there is no section [{name}]"));
    let directives = named(inf)
        .filter(|(name, _)| inf.section(name).is_none())
        .map(|(name, line)| missing(name, line));
    let models = models_sections(inf)
        .filter(|(name, _)| inf.section(name).is_none())
        .map(|(name, line)| missing(&name, line));
    let installs = self::models(inf)
        .filter(|model| installs(inf, model).next().is_none())
        .map(|model| missing(model.value(0), model));
    directives.chain(models).chain(installs).collect()
}

/// 2083: each section is named.
fn sections_are_used(inf: &Inf) -> Vec<Fault> {
    let mut used: BTreeSet<String> = KNOWN.map(str::to_ascii_lowercase).into();
    used.extend(named(inf).map(|(name, _)| name.to_ascii_lowercase()));
    used.extend(models_sections(inf).map(|(name, _)| name.to_ascii_lowercase()));
    for install in models(inf).flat_map(|model| installs(inf, model)) {
        used.extend(
            EXTENSIONS.map(|extension| format!("{}{extension}", install.name).to_ascii_lowercase()),
        );
    }
    inf.sections()
        .filter(|section| !used.contains(&section.name.to_ascii_lowercase()))
        .map(|section| {
            fault(
                section.number,
                2083,
                format!("[{}] is not used", section.name),
            )
        })
        .collect()
}

/// 1296: each model gets a function driver (flag 2 of AddService).
fn services_are_associated(inf: &Inf) -> Vec<Fault> {
    let is_function_driver = |line: &Line| {
        let flags = line.value(1);
        let flags = match flags.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => flags.parse(),
        };
        line.is("AddService") && flags.is_ok_and(|flags| flags & 2 != 0)
    };
    models(inf)
        .flat_map(|model| installs(inf, model))
        .filter(|install| {
            let services = inf.lines(&format!("{}.Services", install.name));
            !services.iter().any(is_function_driver)
        })
        .map(|install| {
            fault(
                install.number,
                1296,
                format!("[{}] has no service", install.name),
            )
        })
        .collect()
}

/// The files that CopyFiles copies: of the sections it names, or named after an `@`.
fn copied(inf: &Inf) -> impl Iterator<Item = (&str, &Line)> {
    let directives = all_lines(inf).filter(|(_, line)| line.is("CopyFiles"));
    directives.flat_map(move |(_, line)| {
        line.values.iter().flat_map(move |name| {
            let file = name.strip_prefix('@').map(|file| (file, line));
            let section = inf.lines(name).iter().map(|line| (line.value(0), line));
            file.into_iter().chain(section)
        })
    })
}

/// 1100, 1230: a copied file comes from the package, by the same name and from the same folder.
fn files_have_a_source(inf: &Inf) -> Vec<Fault> {
    let renamed = copied(inf)
        .filter(|(_, line)| !line.is("CopyFiles") && !line.value(1).is_empty())
        .map(|(file, line)| {
            fault(
                line.number,
                1100,
                format!("{file} is renamed when it is copied"),
            )
        });
    let missing = copied(inf)
        .filter(|(file, _)| {
            !inf.lines("SourceDisksFiles")
                .iter()
                .any(|source| source.is(file))
        })
        .map(|(file, line)| {
            fault(
                line.number,
                1230,
                format!("{file} is not in [SourceDisksFiles]"),
            )
        });
    renamed.chain(missing).collect()
}

/// 1322: files are run from the driver store, directory 13.
fn files_stay_in_the_driver_store(inf: &Inf) -> Vec<Fault> {
    let elsewhere = |line: &Line, what: &str| {
        fault(line.number, 1322, format!("{what} is not in directory 13"))
    };
    let targets = inf.lines("DestinationDirs").iter();
    let targets = targets
        .filter(|line| line.value(0) != "13")
        .map(|line| elsewhere(line, &line.key));
    let images = all_lines(inf)
        .filter(|(_, line)| line.is("ServiceBinary") && !line.value(0).starts_with(r"%13%\"))
        .map(|(_, line)| elsewhere(line, line.value(0)));
    targets.chain(images).collect()
}

/// The lines that AddReg lines of sections accepted by `of` add, with the values' root, key and name.
fn added(inf: &Inf, of: impl Fn(&Section) -> bool) -> impl Iterator<Item = &Line> {
    all_lines(inf)
        .filter(move |(section, line)| line.is("AddReg") && of(section))
        .flat_map(|(_, line)| &line.values)
        .flat_map(|name| inf.lines(name))
}

/// 1320: registry values belong to the device or the service.
fn registry_is_relative(inf: &Inf) -> Vec<Fault> {
    added(inf, |_| true)
        .filter(|line| !line.value(0).eq_ignore_ascii_case("HKR"))
        .map(|line| fault(line.number, 1320, format!("{} is not HKR", line.value(0))))
        .collect()
}

/// 1323: a service's values are below its Parameters key.
fn service_values_are_parameters(inf: &Inf) -> Vec<Fault> {
    let services: BTreeSet<String> = all_lines(inf)
        .filter(|(_, line)| line.is("AddService"))
        .map(|(_, line)| line.value(2).to_ascii_lowercase())
        .collect();
    added(inf, |section| {
        services.contains(&section.name.to_ascii_lowercase())
    })
    .filter(|line| {
        let key = line.value(1).to_ascii_lowercase();
        key != "parameters" && !key.starts_with(r"parameters\")
    })
    .map(|line| {
        fault(
            line.number,
            1323,
            format!("{} is not below Parameters", line.value(2)),
        )
    })
    .collect()
}

/// 1300, 1302, 1303: no co-installers, and nothing that reaches outside the package.
fn nothing_is_legacy(inf: &Inf) -> Vec<Fault> {
    const SECTIONS: [&str; 3] = [".coinstallers", ".logconfigoverride", ".factdef"];
    const DIRECTIVES: [&str; 6] = [
        "DelFiles",
        "RenFiles",
        "DelReg",
        "DelService",
        "LogConfig",
        "BitReg",
    ];
    let sections = inf
        .sections()
        .filter(|section| {
            SECTIONS
                .iter()
                .any(|end| section.name.to_ascii_lowercase().ends_with(end))
        })
        .map(|section| {
            fault(
                section.number,
                1300,
                format!("[{}] is legacy", section.name),
            )
        });
    let directives = all_lines(inf)
        .filter(|(_, line)| DIRECTIVES.iter().any(|directive| line.is(directive)))
        .map(|(_, line)| fault(line.number, 1302, format!("{} is legacy", line.key)));
    let coinstallers = added(inf, |_| true)
        .filter(|line| line.value(2).eq_ignore_ascii_case("CoInstallers32"))
        .map(|line| fault(line.number, 1303, "a co-installer"));
    sections.chain(directives).chain(coinstallers).collect()
}

#[cfg(test)]
mod tests;
