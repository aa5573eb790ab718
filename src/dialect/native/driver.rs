//! Runs one session over a socket: does what it says, in order, and brings it what happens.
//!
//! Actions are put into the room's queue the moment they are read, so they are done in the order
//! they were sent; their answers are awaited side by side. Whatever goes out passes one bounded
//! queue to a writer with a time limit: a client that does not read is dropped, and the room never
//! waits for it.

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt, Sink, SinkExt, Stream, StreamExt,
    future::{BoxFuture, pending},
    stream::FuturesUnordered,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    message::Verb,
    routes::Hub,
    session::{CLOSE_TOO_BIG, Greeting, Output, Reply, Session, Ticket},
};
use crate::room::{
    RoomHandle,
    command::{Caller, SessionId},
    error::JoinError,
    event::{LeaveReason, RoomEvent},
    guests::Address,
    id::ParticipantId,
    model::{EffectsOf, JoinRequest, Joined},
};

/// How often a client is asked for a sign of life.
pub const PING_INTERVAL: Duration = Duration::from_secs(3);
/// A client that gave no sign of life for so long is gone.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(9);
/// One frame must be taken by the client's system within this.
pub const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// After a close frame, how long the client may take to close its end.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// A join that was still on its way when the socket ended is waited for, to be undone.
const JOIN_LIMIT: Duration = Duration::from_secs(2);
/// Room events that may wait for one session; more, and the room calls it too slow.
const EVENT_QUEUE: usize = 2048;
/// Frames that may wait for the writer.
const OUT_QUEUE: usize = 256;
/// WebSocket close code (RFC 6455 §7.4.1): the server met a condition it did not expect.
const CLOSE_ROOM_FAILED: u16 = 1011;

/// What comes from a socket. Its end is the end of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary,
    /// A ping or a pong: the client is alive.
    Alive,
    /// A message beyond what the socket takes; nothing more can be read.
    TooBig,
}

/// What goes to a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A text frame.
    Text(String),
    /// A ping.
    Ping,
    /// A close frame, the last.
    Close(u16, &'static str),
}

/// Serves one client, who came from that address, until either side ends it.
pub async fn drive(
    hub: &Hub,
    from: Address,
    incoming: impl Stream<Item = Incoming> + Unpin,
    outgoing: impl Sink<Outgoing> + Unpin,
) {
    let mut incoming = incoming.fuse();
    let (out, queue) = mpsc::channel(OUT_QUEUE);
    let mut driver = Driver::new(hub, from, out);
    let mut writer = Box::pin(write(outgoing, queue));
    let written = tokio::select! {
        () = driver.run(&mut incoming) => false,
        () = &mut writer => true,
    };
    driver.end().await;
    if !written {
        // The driver's end closed the queue: the writer sends what is left, the close frame last.
        writer.await;
    }
    let until_closed = async { while incoming.next().await.is_some() {} };
    let _ = timeout(CLOSE_LIMIT, until_closed).await;
}

/// Sends what is queued, until the queue ends, the close frame is out, or the client does not read.
async fn write(mut outgoing: impl Sink<Outgoing> + Unpin, mut queue: mpsc::Receiver<Outgoing>) {
    while let Some(frame) = queue.recv().await {
        let last = matches!(frame, Outgoing::Close(..));
        match timeout(WRITE_LIMIT, outgoing.send(frame)).await {
            Ok(Ok(())) if !last => {}
            Ok(_) => return,
            Err(_) => {
                tracing::info!("a client did not read for {WRITE_LIMIT:?} and is dropped");
                return;
            }
        }
    }
}

/// An answer on its way.
type Answer = BoxFuture<'static, (Ticket, Answered)>;

enum Answered {
    Reply(Reply),
    /// A join or resume, with the events that follow if it went well.
    Joined(Result<(RoomHandle, Box<Joined>), JoinError>, mpsc::Receiver<RoomEvent>),
}

struct Driver<'a> {
    hub: &'a Hub,
    from: Address,
    id: SessionId,
    session: Session,
    place: Option<Place>,
    answers: FuturesUnordered<Answer>,
    out: Option<mpsc::Sender<Outgoing>>,
}

/// Where the session is, once it has joined.
struct Place {
    room: RoomHandle,
    participant: ParticipantId,
    events: mpsc::Receiver<RoomEvent>,
}

/// The session is over, or nobody writes its frames any more.
struct Over;

impl<'a> Driver<'a> {
    fn new(hub: &'a Hub, from: Address, out: mpsc::Sender<Outgoing>) -> Self {
        let greeting = Greeting { ice_servers: hub.ice_servers.clone(), version: hub.version.clone(), srt: hub.srt };
        Self {
            hub,
            from,
            id: SessionId::next(),
            session: Session::new(Arc::new(greeting)),
            place: None,
            answers: FuturesUnordered::new(),
            out: Some(out),
        }
    }

    async fn run(&mut self, incoming: &mut (impl Stream<Item = Incoming> + Unpin)) {
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_at = Instant::now() + SILENCE_LIMIT;
        loop {
            // The order counts: an answer goes before the events that follow from it, and a client
            // that was heard is not silent, however long the writer kept us from listening.
            let done = tokio::select! {
                biased;
                Some((ticket, answered)) = self.answers.next() => self.answered(ticket, answered).await,
                event = next_event(&mut self.place) => self.event(event).await,
                frame = incoming.next() => {
                    silent_at = Instant::now() + SILENCE_LIMIT;
                    match frame {
                        Some(frame) => self.frame(frame).await,
                        None => Err(Over),
                    }
                }
                _ = ping.tick() => self.send(Outgoing::Ping).await,
                () = sleep_until(silent_at) => Err(Over),
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn frame(&mut self, frame: Incoming) -> Result<(), Over> {
        let outputs = match frame {
            Incoming::Text(text) => self.session.text(&text),
            Incoming::Binary => self.session.binary(),
            Incoming::Alive => Vec::new(),
            Incoming::TooBig => vec![Output::Close(CLOSE_TOO_BIG, "message too big")],
        };
        self.perform(outputs).await
    }

    async fn answered(&mut self, ticket: Ticket, answered: Answered) -> Result<(), Over> {
        let reply = match answered {
            Answered::Reply(reply) => reply,
            Answered::Joined(Ok((room, joined)), events) => {
                self.place = Some(Place { room, participant: joined.participant.clone(), events });
                Reply::Joined(Ok(joined))
            }
            Answered::Joined(Err(error), _) => Reply::Joined(Err(error)),
        };
        let outputs = self.session.reply(ticket, reply);
        self.perform(outputs).await
    }

    async fn event(&mut self, event: Option<RoomEvent>) -> Result<(), Over> {
        let outputs = match event {
            Some(event) => self.session.event(&event),
            // The room let go of us without a word: there was no space left for one, or it broke.
            None if self.place.as_ref().is_some_and(|place| place.room.is_closed()) => {
                vec![Output::Close(CLOSE_ROOM_FAILED, "the room failed")]
            }
            None => self.session.event(&RoomEvent::Removed { reason: LeaveReason::TooSlow }),
        };
        self.perform(outputs).await
    }

    async fn perform(&mut self, outputs: Vec<Output>) -> Result<(), Over> {
        for output in outputs {
            match output {
                Output::Send(text) => self.send(Outgoing::Text(text)).await?,
                Output::Do(ticket, verb) => {
                    let answer = self.start(verb).map(move |answered| (ticket, answered));
                    self.answers.push(answer.boxed());
                }
                Output::Close(code, reason) => {
                    self.send(Outgoing::Close(code, reason)).await?;
                    return Err(Over);
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, frame: Outgoing) -> Result<(), Over> {
        let out = self.out.as_ref().ok_or(Over)?;
        out.send(frame).await.map_err(|_| Over)
    }

    /// Queues an action with the room and gives back its answer to come.
    fn start(&self, verb: Verb) -> BoxFuture<'static, Answered> {
        let registry = self.hub.registry.clone();
        let id = self.id;
        match verb {
            Verb::Create { room, settings } => {
                let created = registry.create_for_guest(&room, *settings, self.from).map(|_| room);
                answer(async { Reply::Created(created) })
            }
            Verb::Join { room, request } => {
                let (events, receiver) = mpsc::channel(EVENT_QUEUE);
                let request = JoinRequest { from: self.from, ..request };
                async move {
                    let joined = registry.join(&room, request, id, events).await;
                    Answered::Joined(joined.map(|(room, joined)| (room, Box::new(joined))), receiver)
                }
                .boxed()
            }
            Verb::Resume { room, token } => {
                let (events, receiver) = mpsc::channel(EVENT_QUEUE);
                async move {
                    let joined = registry.resume(&room, token, id, events).await;
                    Answered::Joined(joined.map(|(room, joined)| (room, Box::new(joined))), receiver)
                }
                .boxed()
            }
            Verb::Publish { .. }
            | Verb::Subscribe(_)
            | Verb::Unsubscribe(_)
            | Verb::CloseConnection(_)
            | Verb::Answer { .. }
            | Verb::Restart(_)
            | Verb::RestartPublished { .. }
            | Verb::Candidate { .. }
            | Verb::Mute { .. }
            | Verb::Layer { .. }
            | Verb::Rename(_)
            | Verb::Signal { .. }
            | Verb::Record(_)
            | Verb::PauseRecording(_)
            | Verb::ResumeRecording(_)
            | Verb::MarkRecording(..)
            | Verb::StopRecording(_)
            | Verb::Layout(_)
            | Verb::Effects { .. }
            | Verb::Remove(_)
            | Verb::Ping
            | Verb::Leave => match &self.place {
                Some(place) => start_inside(&place.room, place.participant.clone(), verb),
                // The session lets nothing of this through before it has joined.
                None => answer(async { Reply::Left }),
            },
        }
    }

    /// The socket is gone, or soon will be: the participant has the resume window to come back.
    async fn end(&mut self) {
        self.out = None;
        if let Some(Place { room, participant, .. }) = self.place.take() {
            room.detach(participant, self.id).await;
            return;
        }
        // A join may be on its way still; nobody would ever hear that it succeeded.
        let undo = async {
            while let Some((_, answered)) = self.answers.next().await {
                if let Answered::Joined(Ok((room, joined)), _) = answered {
                    if joined.resumed {
                        room.detach(joined.participant, self.id).await;
                    } else {
                        room.leave(joined.participant).await;
                    }
                }
            }
        };
        let _ = timeout(JOIN_LIMIT, undo).await;
    }
}

async fn next_event(place: &mut Option<Place>) -> Option<RoomEvent> {
    match place {
        Some(place) => place.events.recv().await,
        None => pending().await,
    }
}

fn answer(reply: impl Future<Output = Reply> + Send + 'static) -> BoxFuture<'static, Answered> {
    reply.map(Answered::Reply).boxed()
}

/// Each room verb is queued as it is called here; only the answer is left to be awaited.
fn start_inside(room: &RoomHandle, me: ParticipantId, verb: Verb) -> BoxFuture<'static, Answered> {
    let caller = Caller::Participant(me.clone());
    match verb {
        Verb::Publish { connection, sdp, sources } => {
            let published = room.publish(me, connection.clone(), sdp, sources);
            answer(published.map(|published| Reply::Published(connection, published)))
        }
        Verb::Subscribe(to) => answer(room.subscribe(me, to).map(Reply::Subscribed)),
        Verb::Unsubscribe(from) => answer(room.unsubscribe(me, from).map(Reply::Unsubscribed)),
        Verb::CloseConnection(connection) => answer(room.close_connection(me, connection).map(Reply::Connection)),
        Verb::Answer { connection, sdp } => answer(room.answered(me, connection, sdp).map(Reply::Connection)),
        Verb::Restart(connection) => answer(room.restart(me, connection).map(Reply::Connection)),
        Verb::RestartPublished { connection, theirs } => {
            answer(room.restart_published(me, connection, theirs).map(Reply::Restarted))
        }
        Verb::Candidate { connection, candidate } => {
            answer(room.candidate(me, connection, candidate).map(Reply::Connection))
        }
        Verb::Mute { track, muted } => answer(room.mute(caller, track, muted).map(Reply::Changed)),
        Verb::Layer { track, layer } => answer(room.layer(me, track, layer).map(Reply::Changed)),
        Verb::Rename(name) => answer(room.rename(me, name).map(Reply::Changed)),
        Verb::Signal { kind, to, data } => answer(room.signal(me, kind, to, data).map(Reply::Changed)),
        Verb::Record(spec) => answer(room.record(caller, *spec).map(Reply::Recording)),
        Verb::PauseRecording(recording) => answer(room.pause_recording(caller, recording).map(Reply::Recording)),
        Verb::ResumeRecording(recording) => answer(room.resume_recording(caller, recording).map(Reply::Recording)),
        Verb::MarkRecording(recording, title) => {
            answer(room.mark_recording(caller, recording, title).map(Reply::Marked))
        }
        Verb::StopRecording(recording) => answer(room.stop_recording(caller, recording).map(Reply::Recording)),
        Verb::Layout(layout) => answer(room.set_layout(caller, *layout).map(|set| Reply::Changed(set.map(drop)))),
        Verb::Effects { of, chain } => {
            let of = of.unwrap_or(EffectsOf::Participant(me));
            answer(room.set_effects(caller, of, chain).map(Reply::Effects))
        }
        Verb::Ping => answer(async { Reply::Alive }),
        Verb::Remove(participant) => answer(room.remove(caller, participant).map(Reply::Changed)),
        Verb::Leave | Verb::Create { .. } | Verb::Join { .. } | Verb::Resume { .. } => {
            let room = room.clone();
            answer(async move {
                room.leave(me).await;
                Reply::Left
            })
        }
    }
}
