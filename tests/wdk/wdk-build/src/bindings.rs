//! How bindgen reads the headers: what wdk-sys counts on in the bindings.

use std::{borrow::Borrow, fmt};

use bindgen::callbacks::{ItemInfo, ItemKind, ParseCallbacks};

use crate::{Config, ConfigError, definition};

/// Makes a bindgen `Builder` set up for the WDK's headers.
pub trait BuilderExt: Sized {
    /// The builder that wdk-sys starts from.
    ///
    /// # Errors
    /// As [`Config::include_paths`].
    fn wdk_default(config: impl Borrow<Config> + fmt::Debug) -> Result<Self, ConfigError>;
}

impl BuilderExt for bindgen::Builder {
    fn wdk_default(config: impl Borrow<Config> + fmt::Debug) -> Result<Self, ConfigError> {
        let config = config.borrow();
        let includes = config.include_paths()?;
        let definitions = config.preprocessor_definitions();
        let renames = Renames {
            table: config.compute_wdffunctions_symbol_name(),
        };
        Ok(Self::default()
            .use_core()
            .derive_default(true)
            .generate_cstr(true)
            .detect_include_paths(false)
            .default_enum_style(bindgen::EnumVariation::ModuleConsts)
            .must_use_type("NTSTATUS")
            // Deprecated: the genuine bindings leave it out too.
            .blocklist_item("ExAllocatePoolWithTag")
            .clang_args(includes.map(|path| format!("-I{}", path.display())))
            .clang_args(definitions.map(|(name, value)| definition(name, value)))
            // As clang's driver for Windows would: size_t is usize, and nothing of this system is read.
            .clang_args([
                "-nostdinc",
                "-fms-compatibility",
                "-fms-extensions",
                "-fno-builtin",
                "-Wno-microsoft",
            ])
            .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
            .parse_callbacks(Box::new(renames))
            .formatter(bindgen::Formatter::None)
            .rust_edition(bindgen::RustEdition::Edition2024))
    }
}

/// Names that macros give in C, which bindgen cannot follow.
#[derive(Debug)]
struct Renames {
    table: Option<String>,
}

impl ParseCallbacks for Renames {
    fn generated_name_override(&self, item: ItemInfo<'_>) -> Option<String> {
        let is_table =
            matches!(item.kind, ItemKind::Var) && self.table.as_deref() == Some(item.name);
        is_table.then(|| "WdfFunctions".to_owned())
    }
}
