//! What pages are put together from. What is a thing by itself (a state, a field, a chart) is a value that prints
//! itself; what goes round something (a panel, a table, a menu) is a macro in `templates/components/parts.html`.
//! `/dev/components` shows all of them, in every state.

mod chart;
mod field;
mod list;
mod marks;
mod progress;
mod qr;

pub(crate) use chart::{Chart, Sparkline};
pub(crate) use field::{Fault, Field};
pub(crate) use list::{Chips, Heads, Pager, Search};
pub(crate) use marks::{Badge, Icon, Level, Post, Standing};
pub(crate) use progress::{Meter, Progress, Steps};
pub(crate) use qr::QrCode;
