//! How a KMDF driver is linked: the options of the WDK's build, import libraries from lists of exports, and the entry
//! code that every KMDF driver carries.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Architecture, Config, ConfigError, IoError, definition, root};

/// As the WDK's build passes them to the linker; and `/RELEASE`, which sets the image's checksum: Microsoft's linker
/// does that for every `/DRIVER`, lld only when told.
const OPTIONS: [&str; 13] = [
    "/DRIVER",
    "/NODEFAULTLIB",
    "/SUBSYSTEM:NATIVE",
    "/KERNEL",
    "/ENTRY:FxDriverEntry",
    "/NXCOMPAT",
    "/DYNAMICBASE",
    "/MAP",
    "/MAPINFO:EXPORTS",
    "/OPT:REF,ICF",
    "/INTEGRITYCHECK",
    "/MANIFEST:NO",
    "/RELEASE",
];

/// The images a driver imports from, each by the list of its exports.
const IMPORTED: [&str; 2] = ["ntoskrnl.def", "wdfldr.def"];

/// Prepares what is linked into a driver and tells cargo of it.
pub(crate) fn configure(config: &Config) -> Result<(), ConfigError> {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    for list in IMPORTED {
        let list = root().join("lib").join(list);
        link_with(&import_library(config, &list, &out)?);
    }
    link_with(&entry_code(config, &out)?);
    for option in OPTIONS {
        println!("cargo::rustc-cdylib-link-arg={option}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

fn link_with(file: &Path) {
    println!("cargo::rustc-cdylib-link-arg={}", file.display());
}

fn import_library(config: &Config, list: &Path, out: &Path) -> Result<PathBuf, ConfigError> {
    println!("cargo::rerun-if-changed={}", list.display());
    let library = out
        .join(list.file_name().unwrap_or_default())
        .with_extension("lib");
    let machine = match config.architecture {
        Architecture::Amd64 => "x64",
        Architecture::Arm64 => "arm64",
    };
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "lld-link".into());
    run(Command::new(&linker)
        .arg("/lib")
        .arg(join("/def:", list))
        .arg(format!("/machine:{machine}"))
        .arg(join("/out:", &library)))?;
    Ok(library)
}

/// Compiles what the WDK ships as WdfDriverEntry.lib.
fn entry_code(config: &Config, out: &Path) -> Result<PathBuf, ConfigError> {
    let source = root().join("lib/entry.c");
    println!("cargo::rerun-if-changed={}", source.display());
    println!(
        "cargo::rerun-if-changed={}",
        root().join("headers").display()
    );
    let object = out.join("entry.obj");
    let target = env::var("TARGET").unwrap_or_default();
    let compiler = env::var_os(format!("CC_{}", target.replace('-', "_")));
    let mut command = Command::new(compiler.unwrap_or_else(|| "clang".into()));
    command.arg(format!("--target={target}"));
    command.args([
        "-nostdinc",
        "-fms-extensions",
        "-fms-compatibility",
        "-ffreestanding",
    ]);
    command.args(["-O2", "-Wall", "-Werror", "-Wno-microsoft", "-c"]);
    for path in config.include_paths()? {
        command.arg("-I").arg(path);
    }
    for (name, value) in config.preprocessor_definitions() {
        command.arg(definition(name, value));
    }
    run(command.arg(&source).arg("-o").arg(&object))?;
    Ok(object)
}

fn join(option: &str, path: &Path) -> std::ffi::OsString {
    [OsStr::new(option), path.as_os_str()].into_iter().collect()
}

fn run(command: &mut Command) -> Result<(), ConfigError> {
    let output = command
        .output()
        .map_err(|source| IoError::with_path(command.get_program(), source))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(ConfigError::ToolFailed(format!(
        "{command:?} failed:\n{said}"
    )))
}
