//! INF files: how they are written ([`Inf`]), stamped ([`stamp`]), and what is wrong with them ([`lint`]).

mod rules;
mod stamp;
mod syntax;

pub use rules::{Fault, lint};
pub use stamp::{Stamp, stamp};
pub use syntax::{Inf, Line, Section, SyntaxError, UndefinedString};
