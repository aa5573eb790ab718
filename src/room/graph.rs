//! The engine's graph with people's names on what is theirs: engines know identifiers only.

use super::{actor::Room, model::TrackView, participant::Participant};
use crate::media::graph::{Graph, Node, NodeKind};

impl Room {
    /// The media graph as it is, for people.
    pub(super) fn graph(&self) -> Graph {
        let mut graph = self.media.graph();
        for node in &mut graph.nodes {
            if let Some(label) = self.label(node) {
                node.label = label;
            }
        }
        graph
    }

    /// A publisher is his name and what he calls the connection, a subscriber his name and whom he
    /// watches, a track its owner's name, its source and what the engine says of it.
    fn label(&self, node: &Node) -> Option<String> {
        match node.kind {
            NodeKind::Publisher => self.participants.iter().find_map(|publisher| {
                let publication = publisher.publications.iter().find(|p| node.id.contains(p.media.name.0.as_ref()))?;
                Some(format!("{} · {}", publisher.name, publication.name))
            }),
            NodeKind::Subscriber => self.participants.iter().find_map(|subscriber| {
                let subscription =
                    subscriber.subscriptions.iter().find(|s| node.id.contains(s.media.name.0.as_ref()))?;
                let Some(publisher) = subscription.publisher() else {
                    return Some(format!("{} ← the mix", subscriber.name));
                };
                let publisher = self.participants.iter().find(|p| p.id == *publisher)?;
                Some(format!("{} ← {}", subscriber.name, publisher.name))
            }),
            NodeKind::Ingest => self.participants.iter().find_map(|participant| {
                let ingest = participant.ingest.as_ref()?;
                node.id.contains(ingest.media.name.0.as_ref()).then(|| participant.name.clone())
            }),
            NodeKind::Track | NodeKind::Transcoder | NodeKind::Decoder => {
                let (owner, track) = self.track_of(node)?;
                let source = format!("{:?}", track.source).to_lowercase();
                let label = format!("{} · {source} · {}", owner.name, node.label);
                Some(label.trim_end_matches(" · ").to_owned())
            }
            NodeKind::Effect | NodeKind::Mixer | NodeKind::Encoder | NodeKind::Recorder | NodeKind::Output => None,
        }
    }

    fn track_of(&self, node: &Node) -> Option<(&Participant, &TrackView)> {
        self.participants.iter().find_map(|owner| {
            let track = owner.tracks().find(|track| node.id.contains(track.id.as_str()))?;
            Some((owner, track))
        })
    }
}
