//! One client's session: frames, room events and answers in; frames and actions out.
//!
//! No socket, no channel, no clock: the driver has those. So every exchange can be replayed in a
//! test as it stands in a transcript.

use std::{collections::VecDeque, sync::Arc};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    error::Refusal,
    message::{self, Request, RequestId, Verb},
};
use crate::{
    effect::Applied,
    room::{
        error::{ChangeError, ConnectionError, CreateError, JoinError, PublishError, RecordError, SubscribeError},
        event::RoomEvent,
        id::ConnectionName,
        model::{Joined, Marker, Published, Restarted, RoomRecordingView},
    },
    server::srt::SrtPlace,
};

/// Verbs of one session that may wait for their answers.
pub const MAX_PENDING: usize = 64;
/// WebSocket close code (RFC 6455 §7.4.1): all is done.
pub const CLOSE_NORMAL: u16 = 1000;
/// WebSocket close code (RFC 6455 §7.4.1): a message too big to be read.
pub const CLOSE_TOO_BIG: u16 = 1009;

/// What every session tells its client on joining.
#[derive(Clone, Debug, PartialEq)]
pub struct Greeting {
    /// For `RTCConfiguration.iceServers`.
    pub ice_servers: Value,
    /// Of this server.
    pub version: String,
    /// Where players call over SRT, if anywhere.
    pub srt: Option<SrtPlace>,
}

/// The state of one session.
pub struct Session {
    greeting: Arc<Greeting>,
    state: State,
    /// Actions whose answers are out.
    pending: usize,
}

/// A session is in at most one room, once: it ends with it.
enum State {
    /// Only rooms can be made and entered.
    Outside,
    /// The answer is out; what comes meanwhile is done after it, so that verbs keep their order.
    Joining { waiting: VecDeque<Request> },
    /// In a room.
    Inside,
    /// Gone: nothing is done any more.
    Over,
}

/// What the driver is to do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send this text frame.
    Send(String),
    /// Ask the room, now, and bring the answer to [`Session::reply`] with the ticket.
    Do(Ticket, Verb),
    /// Send a close frame and end.
    Close(u16, &'static str),
}

/// Which answer an action belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket(Option<RequestId>);

/// What a room or the registry answered.
#[derive(Debug)]
#[expect(missing_docs, reason = "one for each kind of answer that the room's verbs give")]
pub enum Reply {
    Created(Result<String, CreateError>),
    Joined(Result<Box<Joined>, JoinError>),
    Published(ConnectionName, Result<Published, PublishError>),
    Subscribed(Result<Vec<ConnectionName>, SubscribeError>),
    Unsubscribed(Result<(), SubscribeError>),
    Connection(Result<(), ConnectionError>),
    Restarted(Result<Restarted, ConnectionError>),
    Changed(Result<(), ChangeError>),
    Recording(Result<RoomRecordingView, RecordError>),
    Effects(Result<Vec<Applied>, ChangeError>),
    /// Of `record` with `marker`.
    Marked(Result<Marker, RecordError>),
    /// Of `ping`.
    Alive,
    Left,
}

impl Session {
    /// A session that is in no room yet.
    pub fn new(greeting: Arc<Greeting>) -> Self {
        Self { greeting, state: State::Outside, pending: 0 }
    }

    /// The client's text frame.
    pub fn text(&mut self, text: &str) -> Vec<Output> {
        if matches!(self.state, State::Over) {
            return Vec::new();
        }
        match message::parse(text) {
            Ok(request) => self.request(request),
            Err((id, refusal)) => vec![refuse(id, &refusal)],
        }
    }

    /// The client's binary frame.
    pub fn binary(&mut self) -> Vec<Output> {
        match self.state {
            State::Over => Vec::new(),
            State::Outside | State::Joining { .. } | State::Inside => vec![refuse(None, &Refusal::binary_frame())],
        }
    }

    /// The answer to an action.
    pub fn reply(&mut self, Ticket(id): Ticket, reply: Reply) -> Vec<Output> {
        self.pending -= 1;
        let waiting = self.move_on(&reply);
        let answer = match self.body(reply) {
            Ok(body) => id.map(|id| Output::Send(answer_frame(&id, body))),
            Err(refusal) => Some(refuse(id, &refusal)),
        };
        let mut outputs: Vec<_> = answer.into_iter().chain(self.catch_up(waiting)).collect();
        if matches!(self.state, State::Over) {
            outputs.push(Output::Close(CLOSE_NORMAL, "left"));
        }
        outputs
    }

    /// Changes the state as an answer demands; returns what had to wait for it.
    fn move_on(&mut self, reply: &Reply) -> VecDeque<Request> {
        let next = match reply {
            Reply::Joined(Ok(_)) => State::Inside,
            Reply::Joined(Err(_)) => State::Outside,
            Reply::Left => State::Over,
            Reply::Created(_)
            | Reply::Published(..)
            | Reply::Subscribed(_)
            | Reply::Unsubscribed(_)
            | Reply::Connection(_)
            | Reply::Restarted(_)
            | Reply::Changed(_)
            | Reply::Recording(_)
            | Reply::Effects(_)
            | Reply::Marked(_)
            | Reply::Alive => return VecDeque::new(),
        };
        match std::mem::replace(&mut self.state, next) {
            State::Joining { waiting } => waiting,
            State::Outside | State::Inside | State::Over => VecDeque::new(),
        }
    }

    /// Something happened in the room.
    pub fn event(&mut self, event: &RoomEvent) -> Vec<Output> {
        if !matches!(self.state, State::Inside) || matches!(event, RoomEvent::Connected { .. }) {
            return Vec::new();
        }
        let frame = Output::Send(to_text(event));
        let ends = match event {
            RoomEvent::Removed { .. } => Some("removed"),
            RoomEvent::RoomClosed { .. } => Some("room closed"),
            RoomEvent::ParticipantJoined { .. }
            | RoomEvent::ParticipantUpdated { .. }
            | RoomEvent::ParticipantLeft { .. }
            | RoomEvent::TrackPublished { .. }
            | RoomEvent::TrackUpdated { .. }
            | RoomEvent::TrackUnpublished { .. }
            | RoomEvent::Signal(_)
            | RoomEvent::Speaking { .. }
            | RoomEvent::Recording { .. }
            | RoomEvent::Output { .. }
            | RoomEvent::OutputRemoved { .. }
            | RoomEvent::Layout { .. }
            | RoomEvent::Effects { .. }
            | RoomEvent::EffectsFailed { .. }
            | RoomEvent::TrackPaused { .. }
            | RoomEvent::Barcode { .. }
            | RoomEvent::Motion { .. }
            | RoomEvent::Face { .. }
            | RoomEvent::Level { .. }
            | RoomEvent::Offer { .. }
            | RoomEvent::Connected { .. }
            | RoomEvent::Candidate { .. }
            | RoomEvent::ConnectionClosed { .. } => None,
        };
        match ends {
            None => vec![frame],
            Some(reason) => {
                self.state = State::Over;
                vec![frame, Output::Close(CLOSE_NORMAL, reason)]
            }
        }
    }

    fn request(&mut self, request: Request) -> Vec<Output> {
        let waiting = match &self.state {
            State::Joining { waiting } => waiting.len(),
            State::Outside | State::Inside | State::Over => 0,
        };
        if self.pending + waiting >= MAX_PENDING {
            return vec![refuse(request.id, &Refusal::too_many_pending(MAX_PENDING))];
        }
        if let State::Joining { waiting } = &mut self.state {
            waiting.push_back(request);
            return Vec::new();
        }
        vec![self.begin(request)]
    }

    /// Begins a request, if it is one for this state.
    fn begin(&mut self, Request { id, verb }: Request) -> Output {
        match (&self.state, &verb) {
            (State::Outside, Verb::Join { .. } | Verb::Resume { .. }) => {
                self.state = State::Joining { waiting: VecDeque::new() };
            }
            (_, Verb::Join { .. } | Verb::Resume { .. }) => return refuse(id, &Refusal::already_joined()),
            // A room can be made from anywhere.
            (_, Verb::Create { .. }) => {}
            (State::Inside, _) => {}
            (State::Outside | State::Joining { .. } | State::Over, _) => return refuse(id, &Refusal::not_joined()),
        }
        self.pending += 1;
        Output::Do(Ticket(id), verb)
    }

    /// Does what waited for the answer to a join; stops at another join, which waits in its turn.
    fn catch_up(&mut self, mut waiting: VecDeque<Request>) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(request) = waiting.pop_front() {
            outputs.push(self.begin(request));
            if let State::Joining { waiting: again } = &mut self.state {
                *again = waiting;
                break;
            }
        }
        outputs
    }

    /// The fields of an `ok`, or why there is none.
    fn body(&self, reply: Reply) -> Result<Map<String, Value>, Refusal> {
        match reply {
            Reply::Created(created) => Ok(fields([("room", json!(created?))])),
            Reply::Joined(joined) => Ok(self.joined(*joined?)),
            Reply::Published(connection, published) => {
                let Published { sdp, tracks } = published?;
                Ok(fields([("connection", json!(connection)), ("sdp", json!(sdp)), ("tracks", json!(tracks))]))
            }
            Reply::Subscribed(connections) => Ok(fields([("connections", json!(connections?))])),
            Reply::Unsubscribed(done) => Ok(done.map(|()| Map::new())?),
            Reply::Connection(done) => Ok(done.map(|()| Map::new())?),
            Reply::Restarted(restarted) => Ok(fields([("sdp", json!(restarted?.sdp))])),
            Reply::Changed(done) => Ok(done.map(|()| Map::new())?),
            Reply::Marked(marker) => Ok(fields([("marker", json!(marker?))])),
            Reply::Effects(effects) => Ok(fields([("effects", json!(effects?))])),
            Reply::Recording(recording) => Ok(fields([("recording", json!(recording?))])),
            Reply::Alive | Reply::Left => Ok(Map::new()),
        }
    }

    fn joined(&self, joined: Joined) -> Map<String, Value> {
        let Joined { participant, role, resume, access, room, resumed } = joined;
        fields([
            ("participant", json!(participant)),
            ("role", json!(role)),
            ("resume", json!(resume)),
            ("access", json!(access)),
            ("resumed", json!(resumed)),
            ("room", json!(room)),
            ("ice_servers", self.greeting.ice_servers.clone()),
            ("server", json!({ "version": self.greeting.version, "srt": self.greeting.srt })),
        ])
    }
}

/// The `ok` with these fields.
fn answer_frame(id: &RequestId, body: Map<String, Value>) -> String {
    #[derive(Serialize)]
    struct Ok<'a> {
        id: &'a RequestId,
        r#type: &'static str,
        #[serde(flatten)]
        body: Map<String, Value>,
    }
    to_text(&Ok { id, r#type: "ok", body })
}

/// The `error` of a verb that was not done. It is told even if no answer was asked for.
fn refuse(id: Option<RequestId>, refusal: &Refusal) -> Output {
    #[derive(Serialize)]
    struct Error<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        r#type: &'static str,
        #[serde(flatten)]
        refusal: &'a Refusal,
    }
    Output::Send(to_text(&Error { id, r#type: "error", refusal }))
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn to_text(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).expect("frames are structs and maps with text keys")
}
