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

impl Graph {
    /// Adds a node.
    pub fn add(&mut self, id: &str, kind: NodeKind, label: &str, facts: &[(&str, String)]) {
        let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.nodes.push(Node { id: id.into(), kind, label: label.into(), facts });
    }

    /// Adds an edge.
    pub fn join(&mut self, from: &str, to: &str, label: &str) {
        self.edges.push(Edge { from: from.into(), to: to.into(), label: label.into() });
    }

    /// Whether a node of that id is there.
    pub fn has_node(&self, id: &str) -> bool {
        self.nodes.iter().any(|node| node.id == id)
    }
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
    /// A camera or another source that is fetched.
    Ingest,
    /// What makes of its frames what browsers take, or stands for them.
    Transcoder,
    /// A track.
    Track,
    /// A decoder shared by all that need raw media of a track.
    Decoder,
    /// Effects on a track.
    Effect,
    /// A mixer.
    Mixer,
    /// An encoder of a mix.
    Encoder,
    /// A recording's file.
    Recorder,
    /// A stream for players outside the page.
    Output,
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
