//! The engine: GStreamer pipelines around webrtcbin, one for each peer, decoder, mixer and recorder.

mod bus;
mod caps;
mod clock;
mod counters;
mod engine;
mod feed;
mod peer;
mod pipeline;
mod publisher;
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
pub use peer::CONNECT_TIMEOUT;
pub use pipeline::{OwnedPipeline, START_DEADLINE, live_pipelines};
pub use settings::MediaSettings;
pub use track::{KEYFRAME_HOLDOFF, Track, TrackTable};
pub use webrtc::JITTER_BUFFER;
