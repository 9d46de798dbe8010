//! How fast the driver is: requests through the real image, in a machine that runs freely, beside what a processor that
//! does nothing but copy the same bytes gets done.
//!
//! [`measure`] makes a [`Report`]; docs/performance.md says how to read one.

mod counts;
mod limits;
mod load;
mod plan;
mod plot;
mod report;
mod run;
mod statistics;

pub use plan::{Direction, Plan};
pub use plot::plot;
pub use report::{EmptyRequest, PerRequest, Report, Row};
pub use run::measure;
