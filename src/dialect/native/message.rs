//! What clients say, read from their frames.
//!
//! Dictionary: this dialect is the room's own, so its words are the room's words.
//!
//! | on the wire | in the room |
//! | --- | --- |
//! | verb with `id`, `ok` or `error` | a [`crate::room::RoomHandle`] verb and its answer |
//! | event | [`crate::room::event::RoomEvent`], as it serialises |
//! | `connection` | [`ConnectionName`]: a PeerConnection by the client's own name (publish) or ours (subscribe) |
//! | `create`, `join` | [`crate::room::Registry`] |
//! | `unpublish`, `unsubscribe {connection}` | the end of one connection |
//! | `record` | start, pause, resume or stop of a recording, or a marker in it |
//! | `layout` | the room's layout |
//! | `effects` | a chain of effects, of a participant or the mix |
//!
//! Each way a frame can be wrong has a code of its own; see [`Refusal`].

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::error::Refusal;
use crate::{
    effect::EffectRequest,
    media::{
        IceCandidate, IceCredentials, LayerChoice, LayoutChoice, LayoutSpec, RecordingSpec, description,
        negotiation::NegotiationError,
    },
    room::{
        guests::Address,
        id::{ConnectionName, ParticipantId, RecordingId, ResumeToken, TrackId},
        model::{EffectsOf, JoinRequest, Role, RoomSettings, Source, Subscribe, Unsubscribe},
    },
};

/// A text frame larger than this is refused, in bytes.
pub const MAX_FRAME_BYTES: usize = 256 * 1024;
/// A client's `id` is at most so long, in characters.
const MAX_ID_CHARS: usize = 64;
/// A client's name for a connection is at most so long, in characters.
const MAX_CONNECTION_CHARS: usize = 64;
/// Sources, tracks or receivers named in one frame.
const MAX_NAMED: usize = 256;

/// What the client calls a request; comes back with its answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    /// Any JSON number, as it was written.
    Number(serde_json::Number),
    /// A text of at most 64 characters.
    Text(String),
}

/// One frame: a verb, and the client's name for it if he wants an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `None`: no `ok` is sent.
    pub id: Option<RequestId>,
    /// What to do.
    pub verb: Verb,
}

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are named as on the wire, and docs/protocol/native.md explains each")]
pub enum Verb {
    /// Make a room.
    Create { room: String, settings: Box<RoomSettings> },
    /// Come in.
    Join { room: String, request: JoinRequest },
    /// Come back.
    Resume { room: String, token: ResumeToken },
    /// Send what the offer says.
    Publish { connection: ConnectionName, sdp: String, sources: Vec<(String, Option<Source>, bool)> },
    /// Watch.
    Subscribe(Subscribe),
    /// Watch no more: one, all, or the mix.
    Unsubscribe(Unsubscribe),
    /// `unpublish`, and `unsubscribe` of one connection.
    CloseConnection(ConnectionName),
    /// The answer to an offer.
    Answer { connection: ConnectionName, sdp: String },
    /// Look for other paths to what one watches.
    Restart(ConnectionName),
    /// The same for what one publishes, with the credentials of another offer.
    RestartPublished { connection: ConnectionName, theirs: IceCredentials },
    /// An ICE candidate.
    Candidate { connection: ConnectionName, candidate: IceCandidate },
    /// Mark a track muted or not.
    Mute { track: TrackId, muted: bool },
    /// Have another layer of a track.
    Layer { track: TrackId, layer: LayerChoice },
    /// Take another nickname.
    Rename(String),
    /// A message.
    Signal { kind: String, to: Option<Vec<ParticipantId>>, data: Value },
    /// Start a recording.
    Record(Box<RecordingSpec>),
    /// Leave out what happens from now on.
    PauseRecording(RecordingId),
    /// Go on in the same file.
    ResumeRecording(RecordingId),
    /// Name this moment of one.
    MarkRecording(RecordingId, Option<String>),
    /// Stop one.
    StopRecording(RecordingId),
    /// Lay out the mix.
    Layout(Box<LayoutSpec>),
    /// Replace a chain of effects; of oneself (`None`), somebody, or the mix.
    Effects { of: Option<EffectsOf>, chain: Vec<EffectRequest> },
    /// Remove somebody.
    Remove(ParticipantId),
    /// Answer: whether the socket works.
    Ping,
    /// Go.
    Leave,
}

/// Reads a text frame.
///
/// # Errors
/// A [`Refusal`] with the frame's `id`, if it has a good one.
pub fn parse(text: &str) -> Result<Request, (Option<RequestId>, Refusal)> {
    if text.len() > MAX_FRAME_BYTES {
        return Err((None, Refusal::frame_too_large(text.len())));
    }
    let Object(object) = serde_json::from_str(text).map_err(|error| (None, Refusal::bad_json(&error)))?;
    let mut fields = Fields(object);
    let id = fields.id().map_err(|refusal| (None, refusal))?;
    match fields.verb() {
        Ok(verb) => Ok(Request { id, verb }),
        Err(refusal) => Err((id, refusal)),
    }
}

/// A JSON object that names nothing twice: the last of two `room`s must not be taken by one reader
/// and the first by another. serde_json bounds the depth (128).
struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Object, A::Error> {
                let mut object = Map::new();
                while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                    if object.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("`{key}` is there twice")));
                    }
                    object.insert(key, value);
                }
                Ok(Object(object))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

/// The fields of one frame; each is taken out as it is read.
struct Fields(Map<String, Value>);

impl Fields {
    fn id(&mut self) -> Result<Option<RequestId>, Refusal> {
        match self.take("id") {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(RequestId::Number(number))),
            Some(Value::String(text)) if text.chars().count() <= MAX_ID_CHARS => Ok(Some(RequestId::Text(text))),
            Some(_) => Err(Refusal::bad_id(MAX_ID_CHARS)),
        }
    }

    fn verb(&mut self) -> Result<Verb, Refusal> {
        let verb: String = self.required("type")?;
        match verb.as_str() {
            "create" => self.create(),
            "join" => self.join(),
            "publish" => self.publish(),
            "unpublish" => Ok(Verb::CloseConnection(self.connection()?)),
            "subscribe" => self.subscribe(),
            "unsubscribe" => self.unsubscribe(),
            "answer" => Ok(Verb::Answer { connection: self.connection()?, sdp: self.required("sdp")? }),
            "restart" => self.restart(),
            "candidate" => self.candidate(),
            "mute" => Ok(Verb::Mute { track: self.required("track")?, muted: self.required("muted")? }),
            "layer" => self.layer(),
            "rename" => Ok(Verb::Rename(self.required("name")?)),
            "signal" => self.signal(),
            "record" => self.record(),
            "layout" => Ok(Verb::Layout(Box::new(LayoutSpec::from_json(std::mem::take(&mut self.0))?))),
            "effects" => self.effects(),
            "remove" => Ok(Verb::Remove(self.required("participant")?)),
            "ping" => Ok(Verb::Ping),
            "leave" => Ok(Verb::Leave),
            _ => Err(Refusal::unknown_type(&verb)),
        }
    }

    fn create(&mut self) -> Result<Verb, Refusal> {
        let settings = RoomSettings {
            pin: self.optional("pin")?,
            max_participants: self.optional("max_participants")?,
            codecs: self.optional("codecs")?,
            recording: None,
            linger_s: self.optional("linger_s")?,
        };
        Ok(Verb::Create { room: self.required("room")?, settings: Box::new(settings) })
    }

    fn join(&mut self) -> Result<Verb, Refusal> {
        let room = self.required("room")?;
        if let Some(token) = self.optional("resume")? {
            return Ok(Verb::Resume { room, token });
        }
        let name = self.required("name")?;
        let (pin, role): (_, Option<Role>) = (self.optional("pin")?, self.optional("role")?);
        Ok(Verb::Join { room, request: JoinRequest { name, pin, role, from: Address::default() } })
    }

    fn publish(&mut self) -> Result<Verb, Refusal> {
        #[derive(Deserialize)]
        struct Named {
            mid: String,
            source: Option<Source>,
            #[serde(default)]
            muted: bool,
        }
        let (connection, sdp) = (self.connection()?, self.required("sdp")?);
        let named: Vec<Named> = self.bounded("tracks")?.unwrap_or_default();
        let sources = named.into_iter().map(|Named { mid, source, muted }| (mid, source, muted)).collect();
        Ok(Verb::Publish { connection, sdp, sources })
    }

    fn subscribe(&mut self) -> Result<Verb, Refusal> {
        let all: Option<bool> = self.optional("all")?;
        let participant: Option<ParticipantId> = self.optional("participant")?;
        let tracks: Option<Vec<TrackId>> = self.bounded("tracks")?;
        let effects: Option<bool> = self.optional("effects")?;
        if effects.is_some() && participant.is_none() {
            return Err(Refusal::bad_field("effects", "goes with `participant`"));
        }
        if self.optional("mix")?.unwrap_or(false) {
            if all.is_some() || participant.is_some() || tracks.is_some() {
                return Err(Refusal::bad_field("mix", "goes with nothing else"));
            }
            return Ok(Verb::Subscribe(Subscribe::Mix));
        }
        match (all, participant) {
            (Some(true), None) if tracks.is_none() => Ok(Verb::Subscribe(Subscribe::All)),
            (Some(true), None) => Err(Refusal::bad_field("tracks", "goes with `participant`, not with `all`")),
            (Some(true), Some(_)) => Err(Refusal::bad_field("all", "does not go with `participant`")),
            (_, Some(participant)) => {
                Ok(Verb::Subscribe(Subscribe::Participant { participant, tracks, effects: effects.unwrap_or(true) }))
            }
            (_, None) => Err(Refusal::missing_field("participant")),
        }
    }

    fn layer(&mut self) -> Result<Verb, Refusal> {
        let track = self.required("track")?;
        let (rid, height): (Option<String>, Option<u32>) = (self.optional("rid")?, self.optional("height")?);
        let layer = match (rid, height) {
            (None, None) => LayerChoice::Largest,
            (Some(rid), None) => LayerChoice::Named(rid),
            (None, Some(height)) => LayerChoice::Height(height),
            (Some(_), Some(_)) => return Err(Refusal::bad_field("height", "does not go with `rid`")),
        };
        Ok(Verb::Layer { track, layer })
    }

    fn unsubscribe(&mut self) -> Result<Verb, Refusal> {
        let all: Option<bool> = self.optional("all")?;
        let participant: Option<ParticipantId> = self.optional("participant")?;
        let mix: Option<bool> = self.optional("mix")?;
        let connection = if self.0.contains_key("connection") { Some(self.connection()?) } else { None };
        match (all.unwrap_or(false), mix.unwrap_or(false), participant, connection) {
            (true, false, None, None) => Ok(Verb::Unsubscribe(Unsubscribe::All)),
            (false, true, None, None) => Ok(Verb::Unsubscribe(Unsubscribe::Mix)),
            (false, false, Some(participant), None) => Ok(Verb::Unsubscribe(Unsubscribe::Participant(participant))),
            (false, false, None, Some(connection)) => Ok(Verb::CloseConnection(connection)),
            (false, false, None, None) => Err(Refusal::missing_field("participant")),
            _ => Err(Refusal::bad_field("all", "one of `all`, `mix`, `participant` and `connection` is enough")),
        }
    }

    fn restart(&mut self) -> Result<Verb, Refusal> {
        let connection = self.connection()?;
        let Some(sdp) = self.optional::<String>("sdp")? else { return Ok(Verb::Restart(connection)) };
        let theirs = description::credentials(&sdp);
        let theirs = theirs.ok_or_else(|| NegotiationError::NotSdp("it has no ICE user name and password".into()))?;
        Ok(Verb::RestartPublished { connection, theirs })
    }

    fn candidate(&mut self) -> Result<Verb, Refusal> {
        let connection = self.connection()?;
        let candidate = match self.0.remove("candidate") {
            None => return Err(Refusal::missing_field("candidate")),
            Some(Value::Null) => IceCandidate { candidate: String::new(), mid: None, line: None },
            Some(value) => read("candidate", value)?,
        };
        Ok(Verb::Candidate { connection, candidate })
    }

    fn signal(&mut self) -> Result<Verb, Refusal> {
        let (kind, to) = (self.required("kind")?, self.bounded("to")?);
        // `null` is a message like any other.
        let data = self.0.remove("data").ok_or_else(|| Refusal::missing_field("data"))?;
        Ok(Verb::Signal { kind, to, data })
    }

    fn record(&mut self) -> Result<Verb, Refusal> {
        let action: String = self.required("action")?;
        match action.as_str() {
            "start" => self.recording_spec().map(|spec| Verb::Record(Box::new(spec))),
            "pause" => self.required("recording").map(Verb::PauseRecording),
            "resume" => self.required("recording").map(Verb::ResumeRecording),
            "marker" => Ok(Verb::MarkRecording(self.required("recording")?, self.optional("title")?)),
            "stop" => self.required("recording").map(Verb::StopRecording),
            _ => Err(Refusal::bad_field("action", "is `start`, `pause`, `resume`, `marker` or `stop`")),
        }
    }

    fn effects(&mut self) -> Result<Verb, Refusal> {
        let (mix, participant): (Option<bool>, Option<ParticipantId>) =
            (self.optional("mix")?, self.optional("participant")?);
        let track: Option<TrackId> = self.optional("track")?;
        let of = match (mix.unwrap_or(false), participant, track) {
            (true, None, None) => Some(EffectsOf::Mix),
            (true, ..) => return Err(Refusal::bad_field("mix", "does not go with `participant` or `track`")),
            (false, Some(_), Some(_)) => return Err(Refusal::bad_field("track", "does not go with `participant`")),
            (false, None, track) => track.map(EffectsOf::Track),
            (false, participant, None) => participant.map(EffectsOf::Participant),
        };
        let chain = self.bounded("effects")?.ok_or_else(|| Refusal::missing_field("effects"))?;
        Ok(Verb::Effects { of, chain })
    }

    fn recording_spec(&mut self) -> Result<RecordingSpec, Refusal> {
        let usual = RecordingSpec::default();
        Ok(RecordingSpec {
            mode: self.optional("mode")?.unwrap_or(usual.mode),
            audio: self.optional("audio")?.unwrap_or(usual.audio),
            video: self.optional("video")?.unwrap_or(usual.video),
            layout: self.take("layout").map(LayoutChoice::from_json).transpose()?,
            width: self.optional("width")?.unwrap_or(usual.width),
            height: self.optional("height")?.unwrap_or(usual.height),
            fps: self.optional("fps")?.unwrap_or(usual.fps),
            effects: self.optional("effects")?.unwrap_or(usual.effects),
            name: self.optional("name")?,
            max_s: self.optional("max_s")?,
            max_bytes: self.optional("max_bytes")?,
            stop_when_empty_s: self.optional("stop_when_empty_s")?,
            start: self.optional("start")?.unwrap_or(usual.start),
        })
    }

    fn connection(&mut self) -> Result<ConnectionName, Refusal> {
        let name: String = self.required("connection")?;
        if name.is_empty() || name.chars().count() > MAX_CONNECTION_CHARS {
            return Err(Refusal::bad_field("connection", "has 1 to 64 characters"));
        }
        Ok(ConnectionName(name.into()))
    }

    fn required<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<T, Refusal> {
        self.optional(field)?.ok_or_else(|| Refusal::missing_field(field))
    }

    /// `null` is as good as nothing.
    fn optional<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<Option<T>, Refusal> {
        self.take(field).map(|value| read(field, value)).transpose()
    }

    fn bounded<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<Option<Vec<T>>, Refusal> {
        let list: Option<Vec<T>> = self.optional(field)?;
        match list {
            Some(list) if list.len() > MAX_NAMED => Err(Refusal::bad_field(field, "has at most 256 entries")),
            list => Ok(list),
        }
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field).filter(|value| !value.is_null())
    }
}

fn read<T: DeserializeOwned>(field: &'static str, value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| Refusal::bad_field(field, &error.to_string()))
}
