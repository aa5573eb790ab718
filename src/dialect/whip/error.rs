//! Room errors as HTTP statuses and problem documents. Each `match` names every variant, so that a new
//! one does not compile until it has a status here.

use http::{HeaderValue, StatusCode, header};

use super::message::Protocol;
use crate::{
    media::{MediaError, negotiation::NegotiationError},
    room::error::{ConnectionError, JoinError, PublishError, RoomGone, WatchError},
    server::problem::Problem,
};

/// After a refusal that will pass, ask again in so many seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// The status that goes to a client of `protocol`. `@eyevinn/webrtc-player` takes a 400 for a server
/// that wants to make the offer itself, and starts again in that way: it gets 422.
pub fn for_clients_of(protocol: Protocol, problem: Problem) -> Problem {
    if protocol == Protocol::Whep && problem.status() == StatusCode::BAD_REQUEST {
        return problem.with_status(StatusCode::UNPROCESSABLE_ENTITY);
    }
    problem
}

/// Coming in failed.
pub fn joining(error: JoinError) -> Problem {
    let detail = error.to_string();
    match error {
        JoinError::Create(error) => error.into(),
        JoinError::Name(_) => Problem::bad_request("bad_name", detail).field("name"),
        JoinError::PinRequired => Problem::unauthorised("pin_required", detail).field("pin"),
        JoinError::WrongPin => Problem::unauthorised("wrong_pin", detail).field("pin"),
        JoinError::PinLocked { wait_s } => {
            too_many("pin_locked", detail).field("pin").header(header::RETRY_AFTER, wait_s.into())
        }
        JoinError::Full { .. } => Problem::unavailable("room_full", detail),
        JoinError::ResumeUnknown => Problem::unauthorised("resume_unknown", detail),
        JoinError::Gone(error) => error.into(),
    }
}

/// Publishing failed.
pub fn publishing(error: PublishError) -> Problem {
    let detail = error.to_string();
    match error {
        PublishError::NotAllowed => Problem::forbidden("not_allowed", detail),
        PublishError::ConnectionExists => Problem::new(StatusCode::CONFLICT, "connection_exists", detail),
        PublishError::TooMany { .. } => Problem::new(StatusCode::CONFLICT, "too_many_publications", detail),
        PublishError::TooFast => too_many("too_fast", detail).header(header::RETRY_AFTER, RETRY_AFTER),
        PublishError::Offer(error) => description(&error),
        PublishError::Media(error) => media(&error),
        PublishError::NotInRoom => gone(),
        PublishError::Gone(error) => error.into(),
    }
}

/// Watching failed.
pub fn watching(error: WatchError) -> Problem {
    let detail = error.to_string();
    match error {
        WatchError::NothingPublished => not_live(),
        WatchError::NoSuchTrack => Problem::not_found("no_such_track", detail),
        WatchError::NoMix => Problem::unavailable("mix_unavailable", detail),
        WatchError::TooMany { .. } => Problem::new(StatusCode::CONFLICT, "too_many_subscriptions", detail),
        WatchError::TooFast => too_many("too_fast", detail).header(header::RETRY_AFTER, RETRY_AFTER),
        WatchError::Offer(error) => description(&error),
        WatchError::Media(error) => media(&error),
        WatchError::NotInRoom => gone(),
        WatchError::Gone(error) => error.into(),
    }
}

/// The connection or the room ended while its answer was made.
pub fn ended() -> Problem {
    Problem::unavailable("media_failed", "the connection ended before it was answered")
}

/// Nobody publishes; later somebody may.
fn not_live() -> Problem {
    Problem::new(StatusCode::CONFLICT, "not_live", "nobody publishes in the room now")
        .header(header::RETRY_AFTER, RETRY_AFTER)
}

/// A candidate or a restart failed.
pub fn connection(error: ConnectionError) -> Problem {
    let detail = error.to_string();
    match error {
        ConnectionError::Unknown | ConnectionError::NotInRoom => gone(),
        ConnectionError::CandidateBeforeOffer => Problem::new(StatusCode::CONFLICT, "candidate_before_offer", detail),
        ConnectionError::UnexpectedAnswer => Problem::new(StatusCode::CONFLICT, "unexpected_answer", detail),
        ConnectionError::NoRestart => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no_ice_restart", detail),
        ConnectionError::TooFast => too_many("too_fast", detail).header(header::RETRY_AFTER, RETRY_AFTER),
        ConnectionError::Sdp(error) => description(&error),
        ConnectionError::TooManyCandidates { .. } => too_many("too_many_candidates", detail),
        ConnectionError::Gone(RoomGone::Closed) => gone(),
        ConnectionError::Gone(error @ RoomGone::Busy) => error.into(),
    }
}

/// A description cannot be taken.
pub fn description(error: &NegotiationError) -> Problem {
    let detail = error.to_string();
    let unprocessable = |code| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail.clone());
    match error {
        NegotiationError::NotSdp(_) => Problem::bad_request("bad_sdp", detail),
        NegotiationError::TooLarge(_) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "sdp_too_large", detail),
        NegotiationError::NoCommonCodec { .. } => unprocessable("no_common_codec"),
        NegotiationError::NothingToReceive => unprocessable("nothing_to_receive"),
        NegotiationError::NothingToSend => unprocessable("nothing_to_send"),
        NegotiationError::NotACandidate(_) => Problem::bad_request("bad_candidate", detail),
    }
}

/// No session of that identifier stands.
pub fn gone() -> Problem {
    Problem::not_found("no_such_session", "there is no such session, or it is over")
}

fn media(error: &MediaError) -> Problem {
    let detail = error.to_string();
    match error {
        MediaError::Description(_) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_sdp", detail),
        MediaError::ConnectTimeout(_)
        | MediaError::Handshake(_)
        | MediaError::ConnectionLost
        | MediaError::Element { .. }
        | MediaError::File(_)
        | MediaError::DiskFull
        | MediaError::Unavailable(_)
        | MediaError::Deadline { .. } => Problem::unavailable("media_failed", detail),
        MediaError::Busy { .. } => Problem::unavailable("server_busy", detail),
    }
}

/// More than is taken.
pub fn too_many(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
}
