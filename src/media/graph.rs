//! A room's media graph as data: what an operator looks at.

use serde::Serialize;
use utoipa::ToSchema;

/// Nodes and the arrows media takes between them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Graph {
    /// What there is.
    pub nodes: Vec<Node>,
    /// What flows where.
    pub edges: Vec<Edge>,
}

/// Something media comes from, passes through, or ends in.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Node {
    /// Unique in the graph.
    pub id: String,
    /// What it is.
    pub kind: NodeKind,
    /// For people: a nickname, a codec, a size.
    pub label: String,
    /// Its state and figures, by name.
    pub facts: std::collections::BTreeMap<String, String>,
}

/// What a node is; the order is the order of columns in a drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// A publisher's connection.
    Publisher,
    /// A track.
    Track,
    /// A decoder shared by all that need raw media of a track.
    Decoder,
    /// A mixer.
    Mixer,
    /// An encoder of a mix.
    Encoder,
    /// A recording's file.
    Recorder,
    /// A subscriber's connection.
    Subscriber,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The other side's description is not there yet.
    Negotiating,
    /// ICE and DTLS are coming up.
    Connecting,
    /// Media flows.
    Connected,
    /// It is over, and about to be struck out.
    Ended,
}

/// Media flows from one node to another.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Edge {
    /// Source node.
    pub from: String,
    /// Target node.
    pub to: String,
    /// What flows, e.g. `VP8 rtp`, `I420 640×360`.
    pub label: String,
}
