//! Protocol doors. Each folder translates one protocol to room commands, and room events back; it
//! owns no media and makes no policy.

pub mod native;
pub mod whip;
