//! The engine: GStreamer pipelines around webrtcbin, one for each peer, decoder, mixer and recorder.

mod bus;
mod caps;
mod clock;
pub mod composite;
mod counters;
pub mod decoder;
mod feed;
pub mod mixer;
mod pipeline;
pub mod preset;
pub mod recorder;
mod settings;
mod track;

pub use bus::PipelineEvent;
pub use caps::rtp_caps;
pub use clock::RoomClock;
pub use counters::{Counters, counters};
pub use feed::{Feed, Packet};
pub use pipeline::{OwnedPipeline, START_DEADLINE, live_pipelines};
pub use settings::MediaSettings;
pub use track::{KEYFRAME_HOLDOFF, Track, TrackTable};
