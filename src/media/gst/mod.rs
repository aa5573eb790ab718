//! The engine: GStreamer pipelines around webrtcbin, one for each peer, decoder, mixer and recorder.

mod bus;
mod caps;
mod clock;
pub mod composite;
mod counters;
pub mod decoder;
mod engine;
mod feed;
pub mod mixer;
mod peer;
mod pipeline;
pub mod preset;
mod publisher;
pub mod recorder;
mod room;
mod settings;
mod subscriber;
mod tap;
mod track;
mod webrtc;

pub use bus::PipelineEvent;
pub use caps::rtp_caps;
pub use clock::RoomClock;
pub use counters::{Counters, counters};
pub use engine::GstEngine;
pub use feed::{Feed, Packet};
pub use pipeline::{OwnedPipeline, START_DEADLINE, live_pipelines};
pub use settings::MediaSettings;
pub use track::{KEYFRAME_HOLDOFF, Track, TrackTable};
pub use webrtc::JITTER_BUFFER;
