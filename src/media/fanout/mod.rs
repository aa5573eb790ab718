//! The fan-out edge: viewers of forwarded tracks and publishers, without a thread for each.
//!
//! A client is a sans-I/O WebRTC session (str0m). A few media threads drive all of them, over one UDP
//! port, and the TCP port of the same number for those whose network blocks UDP. What a publisher sends goes to a [`Downstream`]. A [`Source`] hands each of a track's packets once to every thread that has viewers of it, and
//! the thread writes it to each viewer with his own numbers. Payload bytes are shared by all of them,
//! also in what is kept to be sent again. ICE is full, but only where a client's own check came from is
//! checked: what an answer says of other addresses is not read.
//!
//! Nothing here names GStreamer; tracks come from wherever somebody calls [`Source::forward`].

mod admission;
mod counters;
mod demux;
mod dependencies;
mod describe;
mod downlink;
mod dtls;
mod edge;
mod estimate;
mod framing;
mod gate;
mod inbox;
mod meter;
mod network;
mod numbering;
mod pace;
mod peer;
mod publishing;
mod reception;
mod redundancy;
mod sockets;
mod source;
mod streams;
mod watching;
mod worker;

pub use counters::{Counters, counters};
pub use demux::{Demux, PeerKey, Remote};
pub use edge::{Edge, EdgeSettings, KeyframeRequests, Publisher, Viewer};
pub use framing::Frames;
pub use publishing::{Downstream, Publication};
pub use source::{Earlier, Source, Upstream};
