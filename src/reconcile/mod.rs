//! Decides when to look, what is under way, and what the status says.

mod ledger;
pub mod view;

pub use ledger::{Changes, Ledger};
