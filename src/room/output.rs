//! Who is shown to players outside the page.

use tokio::sync::{mpsc, oneshot};

use super::{
    actor::Room,
    error::JoinError,
    guests::Address,
    id::{ConnectionId, ConnectionName, ParticipantId, TrackId},
    model::{OutputOf, Playing, Source},
};
use crate::media::{CodecName, Kind, MixTracks, output::Shown};

/// Packets that wait for a player; more than a camera's group of pictures, which comes all at once (4 MiB).
const QUEUE: usize = 8192;
/// Players of a room at once, and what they asked for before.
const MOST_OUTPUTS: usize = 256;

impl Room {
    pub(super) fn output(&mut self, of: &OutputOf, answer: oneshot::Sender<Option<Playing>>) {
        let shown = self.shown(of).filter(|_| self.outputs.len() < MOST_OUTPUTS);
        let Some((shown, codecs)) = shown else {
            // Whoever asked may have gone.
            let _ = answer.send(None);
            return;
        };
        let (reader, pieces) = mpsc::channel(QUEUE);
        if answer.send(Some(Playing { codecs, pieces })).is_ok() {
            let connection = ConnectionId { participant: ParticipantId::random(), name: ConnectionName::random() };
            self.outputs.insert(connection.clone());
            self.media.output(connection, shown, reader);
        }
    }

    pub(super) fn on_output_ended(&mut self, connection: &ConnectionId) {
        self.outputs.remove(connection);
        self.media.close(connection);
    }

    fn shown(&self, of: &OutputOf) -> Option<(Shown, Vec<CodecName>)> {
        match of {
            OutputOf::Mix => {
                let tracks = MixTracks { video: self.mix_picture.clone(), audio: TrackId::random() };
                self.capabilities.mix.then(|| (Shown::Mix(tracks), vec![CodecName::H264, CodecName::Opus]))
            }
            OutputOf::Participant(id) | OutputOf::Clean(id) => {
                let participant = self.participants.iter().find(|participant| participant.id == *id)?;
                let live = participant.publications.iter().filter(|publication| publication.is_live());
                let tracks: Vec<_> = live.flat_map(|it| it.tracks.iter().map(|(_, track)| track)).collect();
                // His camera before his screen, and one of each kind: players show no more.
                let first = |kind: Kind| {
                    let of_kind = || tracks.iter().filter(move |track| track.kind == kind);
                    of_kind().find(|track| track.source != Source::Screen).or_else(|| of_kind().next())
                };
                let taken: Vec<_> = [Kind::Video, Kind::Audio].into_iter().filter_map(first).collect();
                let effects = matches!(of, OutputOf::Participant(_));
                let shown = Shown::Tracks { tracks: taken.iter().map(|track| track.id.clone()).collect(), effects };
                (!taken.is_empty()).then(|| (shown, taken.iter().map(|track| track.codec).collect()))
            }
        }
    }

    /// Who shows the PIN at the door may look in. Where there is none, nothing is proved by one.
    pub(super) fn check_viewer(&mut self, pin: &str, from: Address) -> Result<(), JoinError> {
        if self.pin.pin().is_none() {
            return Err(JoinError::WrongPin);
        }
        self.pin.check(Some(pin), from, tokio::time::Instant::now())
    }
}
