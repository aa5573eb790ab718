//! What a request does: publishes into a room, adds candidates, ends a session.
//!
//! A session is a participant like any other, with one connection. What he shows opens the room as it
//! would anywhere: the API secret, the access token of somebody in it, or its PIN.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    error,
    message::{self, FRAGMENT, Fragment, Match, Place, Protocol, SDP},
    session::{Credential, Generation, Session, Sessions, Waiter, Waiters},
};
use crate::{
    config::IceServer,
    media::{
        CodecName, IceCandidate, IceCredentials, Kind,
        negotiation::{self, MAX_SDP_BYTES},
    },
    room::{
        Registry, RoomHandle,
        command::SessionId,
        error::WatchError,
        event::RoomEvent,
        guests::{Address, Rates},
        id::{AccessToken, ConnectionName, ParticipantId},
        model::{JoinRequest, Restarted, Role, RoomView, Watch, Watching},
    },
    server::{
        auth::Gate,
        problem::Problem,
        request::{BodyStream, decode, find, read},
    },
};

/// Sessions that one address begins at once.
const POSTS_AT_ONCE: usize = 100;
/// And in the long run.
const POSTS_PER_SECOND: usize = 10;
/// Sessions of one address that are not connected yet: each has a pipeline meanwhile.
const MOST_WAITING: usize = 50;
/// A body must be there within this.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// The answer waits so long for candidates of ours.
const GATHERING_LIMIT: Duration = Duration::from_secs(2);
/// A POST is answered within this, whatever it waits for: OBS gives up after 8 s.
const POST_LIMIT: Duration = Duration::from_secs(7);
/// Room events that may wait for one session.
const EVENT_QUEUE: usize = 2048;
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// What every request needs.
pub struct Hub {
    registry: Arc<Registry>,
    gate: Gate,
    /// `Link` headers, one for each ICE server.
    links: Vec<HeaderValue>,
    sessions: Arc<Sessions>,
    rates: Mutex<Rates>,
    waiters: Waiters,
}

/// A request, its body not read yet.
pub struct Request {
    /// POST, PATCH …
    pub method: Method,
    /// The path, undecoded.
    pub path: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Where it came from.
    pub from: Address,
    /// Its body.
    pub body: BodyStream,
}

/// An answer that is no refusal.
#[derive(Debug)]
pub struct Answer {
    /// 200, 201, 204.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// SDP, or nothing.
    pub body: String,
}

impl Answer {
    fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: String::new() }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }
}

/// Somebody in a room who has no connection yet.
struct Guest {
    room: RoomHandle,
    id: ParticipantId,
    events: mpsc::Receiver<RoomEvent>,
    ghost: Ghost,
    waiter: Waiter,
}

/// Has somebody leave whose request went away before it was answered.
struct Ghost(Option<(RoomHandle, ParticipantId)>);

impl Drop for Ghost {
    fn drop(&mut self) {
        if let Some((room, id)) = self.0.take() {
            tokio::spawn(async move { room.leave(id).await });
        }
    }
}

impl Guest {
    /// He leaves; that is done when this returns.
    async fn leave(mut self) {
        self.ghost.0 = None;
        self.room.leave(self.id.clone()).await;
    }

    /// Passes on the candidates that stand in his own offer.
    fn bring_candidates(&self, connection: &ConnectionName, offer: &str) {
        for candidate in message::candidates(offer) {
            let candidate = IceCandidate { candidate, mid: None, line: Some(0) };
            // One that is not taken is passed over, as any other that is not understood.
            drop(self.room.candidate(self.id.clone(), connection.clone(), candidate));
        }
    }
}

impl Hub {
    /// For the rooms of `registry`; `gate` knows the API secret.
    pub fn new(registry: Arc<Registry>, gate: Gate, ice_servers: &[IceServer]) -> Arc<Self> {
        Arc::new(Self {
            registry,
            gate,
            links: message::links(ice_servers),
            sessions: Arc::default(),
            rates: Mutex::new(Rates::new(POSTS_AT_ONCE, POSTS_PER_SECOND)),
            waiters: Waiters::default(),
        })
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.count()
    }

    /// Does what is asked. Also says which pattern of path that was, for metrics.
    pub async fn answer(&self, request: Request) -> (&'static str, Result<Answer, Problem>) {
        let path = request.path.clone();
        let Some(place) = message::place(&path) else {
            return ("(other)", Err(Problem::not_found("no_such_route", "there is nothing at this path")));
        };
        let (protocol, answer) = match place {
            Place::Publish(room) => (Protocol::Whip, self.at_endpoint(Protocol::Whip, room, None, request).await),
            Place::Watch(room, what) => (Protocol::Whep, self.at_endpoint(Protocol::Whep, room, what, request).await),
            Place::Session(protocol, id) => (protocol, self.at_session(protocol, id, request).await),
        };
        (place.pattern(), answer.map_err(|problem| error::for_clients_of(protocol, problem)))
    }

    async fn at_endpoint(
        &self,
        protocol: Protocol,
        room: &str,
        what: Option<&str>,
        request: Request,
    ) -> Result<Answer, Problem> {
        match request.method {
            Method::POST => {}
            Method::OPTIONS => {
                return Ok(Answer::empty(StatusCode::OK).with(ACCEPT_POST, HeaderValue::from_static(SDP)));
            }
            Method::GET | Method::HEAD => return Ok(looked_at(protocol)),
            _ => return Err(wrong_method("GET, HEAD, POST, OPTIONS")),
        }
        let room = decode(room).ok_or_else(|| Problem::bad_request("bad_room_name", "the path is not UTF-8"))?;
        let mut request = request;
        let sdp = self.offer(&mut request).await?;
        let answered = async {
            match protocol {
                Protocol::Whip => self.publish(&room, &request, sdp).await,
                Protocol::Whep => self.watch(&room, what, &request, sdp).await,
            }
        };
        timeout(POST_LIMIT, answered).await.unwrap_or_else(|_| Err(too_slow()))
    }

    async fn at_session(&self, protocol: Protocol, id: &str, request: Request) -> Result<Answer, Problem> {
        // Preflights show nothing and are told nothing.
        if request.method == Method::OPTIONS {
            return Ok(Answer::empty(StatusCode::OK).with(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT)));
        }
        let session = self.sessions.find(protocol, id).ok_or_else(error::gone)?;
        let shown = credential(&request);
        if !session.credential.admits(shown) {
            return Err(if shown.is_none() {
                Problem::unauthorised("no_credentials", "show what began this session as a bearer token")
            } else {
                Problem::forbidden("bad_credentials", "another token began this session")
            });
        }
        match request.method {
            Method::GET | Method::HEAD => Ok(looked_at(protocol)),
            Method::DELETE => {
                self.sessions.end(id).await;
                Ok(Answer::empty(StatusCode::OK))
            }
            Method::PATCH => patch(&session, request).await,
            _ => Err(wrong_method("GET, HEAD, PATCH, DELETE, OPTIONS")),
        }
    }

    /// Publishes what the offer sends.
    async fn publish(&self, room: &str, request: &Request, sdp: String) -> Result<Answer, Problem> {
        one_of_each(&sdp)?;
        let mut guest = self.join(Protocol::Whip, room, request).await?;
        let connection = ConnectionName("whip".into());
        let published = async {
            let answer = guest.room.publish_alone(guest.id.clone(), connection.clone(), sdp.clone());
            let answer = answer.await.map_err(error::publishing)?.sdp;
            guest.bring_candidates(&connection, &sdp);
            with_candidates(answer, &mut guest.events, &connection).await
        };
        match published.await {
            Ok(answer) => Ok(self.created(Protocol::Whip, guest, connection, &sdp, request, answer)),
            Err(problem) => {
                guest.leave().await;
                Err(problem)
            }
        }
    }

    /// Shows what the path names to whoever offers to take it. A player makes no room.
    async fn watch(&self, room: &str, what: Option<&str>, request: &Request, sdp: String) -> Result<Answer, Problem> {
        let what = match what {
            None => Watch::FirstPublisher,
            Some("mix") => Watch::Mix,
            Some(track) => {
                let track = decode(track).ok_or_else(|| Problem::not_found("no_such_track", "no such track"))?;
                Watch::Track(track.parse().unwrap_or_else(|never| match never {}))
            }
        };
        let effects = with_effects(request, &what)?;
        let found = self.registry.find(room).ok_or_else(Problem::no_such_room)?;
        let view = found.view().await?;
        // Players ask again and again until somebody publishes; the room is not told of each. Behind a PIN
        // whoever asks shows it first.
        if !view.has_pin {
            is_there(&view, &what).map_err(error::watching)?;
        }
        if !effects
            && self.entry(room, shown(request)?.as_deref(), Role::Viewer).await?.role < self.registry.clean_tracks_for()
        {
            let detail = "what you show does not allow to see others without their effects; leave `effects` out";
            return Err(Problem::forbidden("not_allowed", detail));
        }
        let mut guest = self.join(Protocol::Whep, room, request).await?;
        let watched = async {
            let answer = guest.room.watch(guest.id.clone(), what, effects, sdp.clone());
            let Watching { connection, sdp: answer } = answer.await.map_err(error::watching)?;
            guest.bring_candidates(&connection, &sdp);
            let answer = with_candidates(answer, &mut guest.events, &connection).await?;
            Ok((connection, answer))
        };
        match watched.await {
            Ok((connection, answer)) => Ok(self.created(Protocol::Whep, guest, connection, &sdp, request, answer)),
            Err(problem) => {
                guest.leave().await;
                Err(problem)
            }
        }
    }

    /// The session stands: 201 with everything a client needs.
    fn created(
        &self,
        protocol: Protocol,
        mut guest: Guest,
        connection: ConnectionName,
        offer: &str,
        request: &Request,
        answer: String,
    ) -> Answer {
        guest.ghost.0 = None;
        let generation = Generation::new(message::ufrag(offer));
        let tag = generation.tag.clone();
        let session = Session {
            protocol,
            room: guest.room,
            participant: guest.id,
            connection,
            generation: Mutex::new(generation),
            credential: credential(request),
            stop: Default::default(),
        };
        let id = self.sessions.begin(session, guest.events, guest.waiter);
        let location = format!("/{}/session/{id}", protocol.name());
        let mut created = Answer { status: StatusCode::CREATED, headers: HeaderMap::new(), body: answer }
            .with(header::CONTENT_TYPE, HeaderValue::from_static(SDP))
            .with(header::LOCATION, HeaderValue::from_str(&location).expect("it is made of letters and digits"))
            .with(header::ETAG, HeaderValue::from_str(&tag).expect("it is made of letters and digits"))
            .with(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
        for link in &self.links {
            created = created.with(header::LINK, link.clone());
        }
        created
    }

    /// The body of a POST, which is to be an offer.
    async fn offer(&self, request: &mut Request) -> Result<String, Problem> {
        let take = |rates: &Mutex<Rates>| {
            let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
            rates.take(request.from, Instant::now())
        };
        if !take(&self.rates) {
            let problem = error::too_many("too_fast", "too many sessions were begun from your address");
            return Err(problem.header(header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        if !is_of_type(&request.headers, SDP) {
            return Err(wrong_type(SDP).header(ACCEPT_POST, HeaderValue::from_static(SDP)));
        }
        text(request).await
    }

    async fn join(&self, protocol: Protocol, room: &str, request: &Request) -> Result<Guest, Problem> {
        let shown = shown(request)?;
        let waiter = self.waiters.begin(request.from, MOST_WAITING).ok_or_else(|| {
            let detail = "sessions of your address are to be connected before more are begun";
            error::too_many("too_many_waiting", detail).header(header::RETRY_AFTER, HeaderValue::from_static("2"))
        })?;
        let role = match protocol {
            Protocol::Whip => Role::Publisher,
            Protocol::Whep => Role::Viewer,
        };
        let entry = self.entry(room, shown.as_deref(), role).await?;
        let name = find(&request.query, "name").map(str::to_owned).or(entry.name);
        let join = JoinRequest {
            name: name.unwrap_or_else(|| protocol.name().to_uppercase()),
            pin: entry.pin.or_else(|| find(&request.query, "pin").map(str::to_owned)),
            role: Some(role),
            from: request.from,
        };
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let joined = self.registry.join(room, join, SessionId::next(), events).await;
        let (room, joined) = joined.map_err(error::joining)?;
        let ghost = Ghost(Some((room.clone(), joined.participant.clone())));
        Ok(Guest { room, id: joined.participant, events: receiver, ghost, waiter })
    }

    /// What `shown` opens. The owner and whoever is in the room already need no PIN.
    async fn entry(&self, name: &str, shown: Option<&str>, role: Role) -> Result<Entry, Problem> {
        let Some(shown) = shown else { return Ok(Entry::default()) };
        if self.gate.is_secret(shown) {
            let pin = match self.registry.find(name) {
                Some(room) => room.key().await?.pin,
                None => None,
            };
            return Ok(Entry { name: None, pin, role: Role::Moderator });
        }
        if !shown.starts_with("a_") {
            return Ok(Entry { pin: Some(shown.to_owned()), ..Entry::default() });
        }
        let token: AccessToken = shown.parse().unwrap_or_else(|never| match never {});
        let unknown =
            || Problem::unauthorised("access_ended", "that access token is unknown, or its participant has left");
        let room = self.registry.find_by_access(&token).ok_or_else(unknown)?;
        if self.registry.find(name).is_none_or(|wanted| !wanted.is_same(&room)) {
            return Err(Problem::forbidden("other_room", "that access token is for another room"));
        }
        let (id, own) = room.whois(token).await?.ok_or_else(unknown)?;
        if own < role {
            return Err(Problem::forbidden("not_allowed", "a viewer may not publish"));
        }
        let view = room.view().await?;
        let name = view.participants.into_iter().find(|known| known.id == id).map(|known| known.name);
        Ok(Entry { name, pin: room.key().await?.pin, role: own })
    }
}

/// What a caller comes in with.
struct Entry {
    name: Option<String>,
    pin: Option<String>,
    /// What it may beyond coming in.
    role: Role,
}

impl Default for Entry {
    fn default() -> Self {
        Self { name: None, pin: None, role: Role::Viewer }
    }
}

/// Whether tracks are to have their effects, as the query says.
fn with_effects(request: &Request, what: &Watch) -> Result<bool, Problem> {
    let bad = |detail: &str| Err(Problem::bad_request("bad_effects", detail).field("effects"));
    match (find(&request.query, "effects"), what) {
        (None | Some("on"), _) => Ok(true),
        (Some("off"), Watch::Mix) => bad("the mix has its effects; single tracks are there without"),
        (Some("off"), _) => Ok(false),
        (Some(_), _) => bad("`effects` is `on` or `off`"),
    }
}

/// Adds a client's candidates, or restarts ICE.
async fn patch(session: &Session, mut request: Request) -> Result<Answer, Problem> {
    if !is_of_type(&request.headers, FRAGMENT) {
        return Err(wrong_type(FRAGMENT).header(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT)));
    }
    let header = |name: HeaderName| request.headers.get(name).and_then(|value| value.to_str().ok());
    let generation = session.generation();
    let matches = message::matches(header(header::IF_MATCH), header(header::ETAG), &generation.tag);
    match matches {
        Match::Missing => {
            let detail = "say with If-Match which ETag the candidates are for";
            return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "no_if_match", detail));
        }
        Match::Other => {
            let detail = "If-Match names another ETag than the session has";
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "stale_etag", detail));
        }
        Match::Any | Match::Same => {}
    }
    let text = text(&mut request).await?;
    let fragment = message::fragment(&text).map_err(|what| Problem::bad_request("bad_fragment", what))?;
    let restarts = fragment.ufrag.is_some() && fragment.ufrag != generation.ufrag;
    if restarts || matches == Match::Any {
        return restart(session, fragment).await;
    }
    for candidate in fragment.candidates {
        // A name or a transport that we do not know is no error of the client's.
        if negotiation::check_candidate(&candidate).is_err() {
            tracing::debug!(candidate, "a candidate was passed over");
            continue;
        }
        let candidate = IceCandidate { candidate, mid: None, line: Some(0) };
        let added = session.room.candidate(session.participant.clone(), session.connection.clone(), candidate);
        added.await.map_err(error::connection)?;
    }
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// Has the session find other paths, which goes on as it is if that is refused (RFC 9725 §4.3.3). The
/// client's candidates are not read: whoever can do this looks where its checks come from.
async fn restart(session: &Session, fragment: Fragment) -> Result<Answer, Problem> {
    let ufrag = fragment.ufrag.filter(|ufrag| session.generation().ufrag.as_ref() != Some(ufrag));
    let (ufrag, pwd) = (ufrag.unwrap_or_default(), fragment.pwd.unwrap_or_default());
    let bad = || Problem::bad_request("bad_fragment", "a restart brings another ICE user name and a password");
    let theirs = IceCredentials::new(&ufrag, &pwd).ok_or_else(bad)?;
    let restarted = session.room.restart_offered(session.participant.clone(), session.connection.clone(), theirs);
    let Restarted { ours, candidates, .. } = restarted.await.map_err(error::connection)?;
    let generation = session.restarted(&ufrag);
    let body = message::restarted(&fragment.section, &ours, &candidates);
    Ok(Answer { status: StatusCode::OK, headers: HeaderMap::new(), body }
        .with(header::CONTENT_TYPE, HeaderValue::from_static(FRAGMENT))
        .with(header::ETAG, HeaderValue::from_str(&generation.tag).expect("it is made of letters and digits")))
}

/// Whether there is something to be watched.
fn is_there(view: &RoomView, what: &Watch) -> Result<(), WatchError> {
    let mut tracks = view.participants.iter().flat_map(|one| &one.tracks);
    match what {
        Watch::FirstPublisher => tracks.next().map(drop).ok_or(WatchError::NothingPublished),
        Watch::Track(id) => tracks.find(|known| known.id == *id).map(drop).ok_or(WatchError::NoSuchTrack),
        Watch::Mix => Ok(()),
    }
}

/// The answer with our candidates, as far as they come in time.
///
/// # Errors
/// If the connection ends meanwhile, whose end is told once.
async fn with_candidates(
    answer: String,
    events: &mut mpsc::Receiver<RoomEvent>,
    connection: &ConnectionName,
) -> Result<String, Problem> {
    if answer.contains("a=candidate:") {
        return Ok(answer);
    }
    let mut candidates = Vec::new();
    let gather = async {
        loop {
            match events.recv().await {
                Some(RoomEvent::Candidate { connection: of, candidate }) if of == *connection => {
                    if candidate.candidate.is_empty() {
                        return Ok(());
                    }
                    candidates.push(candidate.candidate);
                }
                Some(RoomEvent::ConnectionClosed { connection: of, .. }) if of == *connection => {
                    return Err(error::ended());
                }
                None | Some(RoomEvent::Removed { .. } | RoomEvent::RoomClosed { .. }) => return Err(error::ended()),
                Some(_) => {}
            }
        }
    };
    match timeout(GATHERING_LIMIT, gather).await {
        Ok(gathered) => gathered?,
        Err(_) => tracing::warn!("candidates were not gathered within {GATHERING_LIMIT:?}"),
    }
    Ok(message::with_candidates(&answer, &candidates))
}

/// An offer sends at most one picture and one sound (RFC 9725 §4.2).
fn one_of_each(offer: &str) -> Result<(), Problem> {
    let sections = negotiation::accept(offer, &CodecName::ALL).map_err(|error| error::description(&error))?;
    let count = |kind: Kind| sections.iter().filter(|section| section.kind == kind).count();
    if count(Kind::Audio) > 1 || count(Kind::Video) > 1 {
        let detail = "an offer sends at most one audio and one video track";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many_tracks", detail));
    }
    Ok(())
}

/// What the caller shows: a bearer token, also a bare one, as `@eyevinn/webrtc-player` sends whatever it
/// is given; else the query's `access`, which takes access tokens only, as addresses end up in logs.
fn shown(request: &Request) -> Result<Option<String>, Problem> {
    let bad = |detail: &str| Problem::unauthorised("bad_credentials", detail);
    let Some(value) = request.headers.get(header::AUTHORIZATION) else {
        return match find(&request.query, "access") {
            Some(token) if !token.starts_with("a_") => Err(bad("`access` takes a participant's access token")),
            access => Ok(access.map(str::to_owned)),
        };
    };
    let text = value.to_str().map_err(|_| bad("the Authorization header is not text"))?;
    let token = bearer(text);
    if token.contains(' ') {
        return Err(bad("the Authorization header is not `Bearer` and a token"));
    }
    Ok(Some(token).filter(|token| !token.is_empty()).map(str::to_owned))
}

/// What requests to a session must show again: the header alone, as players do not repeat a query.
fn credential(request: &Request) -> Credential {
    let text = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    Credential::new(text.map(bearer).filter(|token| !token.is_empty()))
}

/// The token of an `Authorization` header: behind `Bearer`, or alone.
fn bearer(text: &str) -> &str {
    let text = text.trim();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        // OBS with an empty token sends the word alone, or nothing.
        None if text.eq_ignore_ascii_case("bearer") => "",
        _ => text,
    }
}

async fn text(request: &mut Request) -> Result<String, Problem> {
    let body = read(&mut request.body, MAX_SDP_BYTES, BODY_LIMIT).await?;
    String::from_utf8(body.into()).map_err(|_| Problem::bad_request("bad_body", "the body is not UTF-8"))
}

fn is_of_type(headers: &HeaderMap, wanted: &str) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().is_some_and(|given| given.trim().eq_ignore_ascii_case(wanted))
}

fn wrong_type(wanted: &str) -> Problem {
    let detail = format!("send the body as Content-Type: {wanted}");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong_content_type", detail)
}

fn wrong_method(allowed: &'static str) -> Problem {
    let detail = format!("this path takes {allowed}");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        .header(header::ALLOW, HeaderValue::from_static(allowed))
}

/// GET and HEAD have nothing to show (RFC 9725 §4.1).
fn looked_at(protocol: Protocol) -> Answer {
    let answer = Answer::empty(StatusCode::OK);
    match protocol {
        Protocol::Whip => answer,
        Protocol::Whep => answer.with(header::CONTENT_TYPE, HeaderValue::from_static(SDP)),
    }
}

fn too_slow() -> Problem {
    Problem::unavailable("room_busy", "the room did not answer in time")
}
