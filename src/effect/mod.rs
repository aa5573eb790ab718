//! Effects as everybody outside the engine sees them: what there is, with typed parameters, and
//! chains of them as clients ask for them. Pure; how an effect is made is the engine's.

mod catalogue;
mod chain;
pub mod launch;
pub mod picture;

pub use catalogue::{Cost, Effect, EffectEvent, Parameter, Range, Selectable, Title, Value};
pub use chain::{Applied, EffectError, EffectRequest, MAX_CHAIN, changed_live, of_kind, pictures_in, resolve};
pub use picture::{Picture, find_picture};
