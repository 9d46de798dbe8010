//! Generates the bindings from `tests/wdk/headers`, the headers the driver itself is compiled with on Linux.
//!
//! Clang is told to read them for 64-bit Windows; what it says about layouts and calling conventions is then made to
//! hold on this host: the C types get their Windows sizes and every function the Windows convention.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let headers = manifest
        .join("../../wdk/headers")
        .canonicalize()
        .context("tests/wdk/headers")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", headers.display());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBCLANG_PATH");
    locate_libclang()?;

    let bindings = generate(&headers)?;
    let (bindings, typed) = (windows_abi(&bindings)?, typed_constants(&headers)?);
    fs::write(out.join("bindings.rs"), bindings)?;
    fs::write(out.join("constants.rs"), typed)?;
    fs::write(out.join("ddi_names.rs"), ddi_names(&headers)?)?;
    Ok(())
}

/// Points bindgen at the newest libclang of this machine, unless `LIBCLANG_PATH` says otherwise.
fn locate_libclang() -> Result<()> {
    if env::var_os("LIBCLANG_PATH").is_some() {
        return Ok(());
    }
    let newest = fs::read_dir("/usr/lib")?
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry
                .file_name()
                .to_str()?
                .strip_prefix("llvm-")?
                .parse()
                .ok()?;
            let library = entry.path().join("lib");
            library
                .join("libclang.so")
                .exists()
                .then_some((version, library))
        })
        .max();
    let Some((_, library)) = newest else {
        bail!(
            "no libclang found in /usr/lib/llvm-*/lib: run `cargo xtask setup`, or set LIBCLANG_PATH"
        );
    };
    // SAFETY: the build script has a single thread.
    unsafe { env::set_var("LIBCLANG_PATH", library) };
    Ok(())
}

fn generate(headers: &Path) -> Result<String> {
    let bindings = bindgen::Builder::default()
        .header_contents("umbrella.h", "#include \"wdm.h\"\n#include \"wdf.h\"\n")
        .clang_args([
            "--target=x86_64-pc-windows-msvc",
            "-fms-extensions",
            "-fms-compatibility",
            "-nostdinc",
            "-fno-builtin",
            "-D_WIN64",
            "-D_AMD64_",
            "-DKMDF_VERSION_MAJOR=1",
            "-DKMDF_VERSION_MINOR=33",
        ])
        .clang_arg(format!("-I{}", headers.display()))
        .detect_include_paths(false)
        .use_core()
        .ctypes_prefix("crate::ctypes")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .derive_default(true)
        .derive_debug(false)
        .generate_cstr(true)
        .layout_tests(true)
        .rust_target(bindgen::RustTarget::stable(91, 0).map_err(|e| anyhow::anyhow!("{e}"))?)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .formatter(bindgen::Formatter::Prettyplease)
        .generate()
        .context("bindgen refused tests/wdk/headers")?;
    Ok(bindings.to_string())
}

/// Every function, declared or pointed to, follows the Windows x64 convention.
fn windows_abi(bindings: &str) -> Result<String> {
    let converted = bindings.replace("extern \"C\"", "extern \"win64\"");
    ensure!(
        !converted.contains("extern \"system\""),
        "a calling convention nobody expected"
    );
    Ok(converted)
}

/// The constants that bindgen skips because their macros name a type: status codes and pool flags.
fn typed_constants(headers: &Path) -> Result<String> {
    let mut source = String::new();
    for file in ["nt/status.h", "wdf/status.h", "nt/ex.h"] {
        for line in fs::read_to_string(headers.join(file))?.lines() {
            let Some((name, value)) = line
                .strip_prefix("#define ")
                .and_then(|rest| rest.split_once(' '))
            else {
                continue;
            };
            if let Some(code) = value
                .strip_prefix("((NTSTATUS)")
                .and_then(|v| v.strip_suffix("L)"))
            {
                source += &format!("pub const {name}: NTSTATUS = {code}_u32.cast_signed();\n");
            } else if let Some(flag) = value.strip_suffix("UI64") {
                source += &format!("pub const {name}: POOL_FLAGS = {flag};\n");
            } else if name.starts_with("STATUS_") {
                source += &format!("pub const {name}: NTSTATUS = {value};\n");
            }
        }
    }
    Ok(source)
}

/// A table of the names of the framework's functions, by index.
fn ddi_names(headers: &Path) -> Result<String> {
    let mut names = Vec::new();
    for line in fs::read_to_string(headers.join("wdf/ddi.inc"))?.lines() {
        let Some((kind, rest)) = line.split_once('(') else {
            continue;
        };
        let fields: Vec<&str> = rest.split([',', ')']).map(str::trim).collect();
        match kind {
            "DDI" => names.push((fields[0].parse::<usize>()?, fields[2].to_owned())),
            "DDI_NAME" => names.push((fields[0].parse()?, fields[1].to_owned())),
            _ => {}
        }
    }
    for (position, (index, name)) in names.iter().enumerate() {
        ensure!(position == *index, "wdf/ddi.inc: {name} is out of order");
    }
    let table: String = names
        .iter()
        .map(|(index, name)| format!("    (\"{name}\", {index}),\n"))
        .collect();
    Ok(format!("[\n{table}]\n"))
}
