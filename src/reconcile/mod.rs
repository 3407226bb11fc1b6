//! Decides when to look, what is under way, and what the status says.
//!
//! [`Reconciler`] decides and is told the time; [`run`] waits and drives a [`Host`]. One task owns the reconciler; front doors
//! read the [`view::View`] that it publishes and send [`Command`]s.
//!
//! ```text
//! look ─▶ Ledger ─▶ Desired ─┐
//! host.observe() ─▶ Observed ┴▶ plan ─▶ steps ─▶ host.apply() ─▶ finished ─▶ look again
//! ```

mod by_hand;
mod chronicle;
mod describe;
mod generations;
mod health;
mod hooks;
mod host;
mod images;
mod jobs;
mod kinds;
mod ledger;
mod networks;
mod order;
mod reconciler;
mod restarts;
mod run;
mod secrets;
mod tasks;
#[cfg(test)]
mod tests;
pub mod view;
mod volumes;

pub use by_hand::{Disobeyed, Obeyed, Order, Override, ServiceKey, Verb};
pub use chronicle::Chronicle;
pub use generations::{
    Answer, Aside, AsideView, Book, Chosen, Comparison, Generation, Generations, HistoryView, Outcome, Question,
    SourceId, Wish,
};
pub use host::{ActionError, Change, Gauges, Host, LayerTransfer, Transfer, TransferWait};
pub use ledger::{Changes, Ledger};
pub use reconciler::{Noted, Reconciler};
pub use run::{Channels, Command, run};
