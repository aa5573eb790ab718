//! Who is seen and heard in the mix, from who is in the room and what they publish. Pure.

use super::{
    floor::Floor,
    id::ParticipantId,
    model::{Source, TrackView},
};
use crate::media::{Kind, LayoutSpec, Published, Scene, Tile};

/// A participant as the mix needs him.
pub struct Actor<'a> {
    /// Who.
    pub id: &'a ParticipantId,
    /// His nickname.
    pub name: &'a str,
    /// What he publishes, in order.
    pub tracks: Vec<&'a TrackView>,
}

/// Lays out the scene: screens first, then people, both in the order they came.
///
/// A muted picture keeps its tile (`video: None`, the slate). Somebody who only speaks has a tile
/// without a picture; somebody who publishes nothing, or only shares a screen, has no other.
pub fn compose(actors: &[Actor<'_>], layout: &LayoutSpec, floor: &Floor) -> Scene {
    let screens = actors.iter().flat_map(|actor| actor.tiles(|track| track.source == Source::Screen));
    let people = actors.iter().flat_map(|actor| {
        let cameras = actor.tiles(|track| track.source != Source::Screen);
        if cameras.is_empty() && actor.speaks() { vec![actor.tile(None)] } else { cameras }
    });
    let audible = actors.iter().flat_map(|actor| actor.tracks.iter());
    let published = actors.iter().flat_map(|actor| {
        let name = actor.name.to_owned();
        actor.tracks.iter().map(move |track| Published {
            track: track.id.clone(),
            name: name.clone(),
            codec: track.codec,
        })
    });
    Scene {
        published: published.collect(),
        tiles: screens.chain(people).collect(),
        audio: audible
            .filter(|track| track.kind == Kind::Audio && !track.muted)
            .map(|track| track.id.clone())
            .collect(),
        layout: layout.clone(),
        speaker: floor.holder().cloned(),
        voices: floor.voices(),
        effects: Vec::new(),
        pictures: Vec::new(),
    }
}

impl Actor<'_> {
    fn tiles(&self, shown: impl Fn(&TrackView) -> bool) -> Vec<Tile> {
        let pictures = self.tracks.iter().filter(|track| track.kind == Kind::Video && shown(track));
        pictures.map(|track| self.tile(Some(track))).collect()
    }

    fn tile(&self, video: Option<&TrackView>) -> Tile {
        Tile {
            participant: self.id.clone(),
            label: self.name.to_owned(),
            video: video.filter(|track| !track.muted).map(|track| track.id.clone()),
            screen: video.is_some_and(|track| track.source == Source::Screen),
        }
    }

    /// A voice, not the sound of a screen.
    fn speaks(&self) -> bool {
        self.tracks.iter().any(|track| track.kind == Kind::Audio && track.source != Source::Screen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        media::CodecName,
        room::id::{ConnectionName, TrackId},
    };

    fn track(kind: Kind, source: Source, muted: bool) -> TrackView {
        let codec = if kind == Kind::Audio { CodecName::Opus } else { CodecName::Vp8 };
        TrackView {
            id: TrackId::random(),
            connection: ConnectionName::random(),
            kind,
            source,
            codec,
            muted,
            effects: Vec::new(),
            layers: Vec::new(),
        }
    }

    fn composed(actors: &[Actor<'_>]) -> Scene {
        compose(actors, &LayoutSpec::default(), &Floor::default())
    }

    #[test]
    fn screens_come_first_then_people_in_the_order_they_came() {
        let (a, b) = (ParticipantId::random(), ParticipantId::random());
        let (a_cam, b_cam) = (track(Kind::Video, Source::Camera, false), track(Kind::Video, Source::Camera, false));
        let b_screen = track(Kind::Video, Source::Screen, false);
        let scene = composed(&[
            Actor { id: &a, name: "A", tracks: vec![&a_cam] },
            Actor { id: &b, name: "B", tracks: vec![&b_cam, &b_screen] },
        ]);
        let tiles: Vec<_> = scene.tiles.iter().map(|tile| (tile.label.as_str(), tile.video.clone())).collect();
        assert_eq!(tiles, [("B", Some(b_screen.id)), ("A", Some(a_cam.id)), ("B", Some(b_cam.id))]);
        assert!(scene.audio.is_empty());
    }

    #[test]
    fn who_only_speaks_or_hides_his_camera_has_a_slate_and_who_publishes_nothing_has_no_tile() {
        let ids = [(); 4].map(|()| ParticipantId::random());
        let (voice, silent) = (track(Kind::Audio, Source::Microphone, false), track(Kind::Audio, Source::Other, true));
        let hidden = track(Kind::Video, Source::Camera, true);
        let sound = track(Kind::Audio, Source::Screen, false);
        let scene = composed(&[
            Actor { id: &ids[0], name: "speaks", tracks: vec![&voice] },
            Actor { id: &ids[1], name: "hides", tracks: vec![&hidden, &silent] },
            Actor { id: &ids[2], name: "watches", tracks: vec![] },
            Actor { id: &ids[3], name: "plays", tracks: vec![&sound] },
        ]);
        let tiles: Vec<_> = scene.tiles.iter().map(|tile| (tile.label.as_str(), &tile.video)).collect();
        assert_eq!(tiles, [("speaks", &None), ("hides", &None)]);
        assert_eq!(scene.audio, [voice.id.clone(), sound.id.clone()]);
        let published: Vec<_> =
            scene.published.into_iter().map(|published| (published.track, published.name)).collect();
        let expected = [(voice.id, "speaks"), (hidden.id, "hides"), (silent.id, "hides"), (sound.id, "plays")];
        assert_eq!(published, expected.map(|(track, name)| (track, name.to_owned())), "muted ones too");
    }
}
