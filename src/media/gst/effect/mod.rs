//! Effects in running pipelines: chains, the places they are put into, and tracks that have them.

mod chain;
mod cost;
mod guard;
mod native;
mod pace;
mod preview;
mod report;
mod slot;
mod track;

pub use chain::{Chain, live_chains};
pub use cost::{CostBook, effect_totals};
pub use native::Album;
pub use preview::Previews;
pub use report::{Reports, Turn};
pub use slot::Slot;
pub use track::EffectedTrack;
