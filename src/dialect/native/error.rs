//! Codes of the native protocol. Every room error is mapped by a `match` without a wildcard, so a
//! new variant does not compile until it has a code here; `docs/protocol/native.md` lists them all.

use serde::Serialize;

use super::message::MAX_FRAME_BYTES;
use crate::{
    effect::EffectError,
    media::{LayoutError, MediaError, negotiation::NegotiationError},
    room::error::{
        ChangeError, ConnectionError, CreateError, JoinError, NameError, PublishError, RecordError, RoomGone,
        SubscribeError,
    },
};

/// What is told of a value or a message that a client or an engine made, in characters.
const MAX_ECHO: usize = 200;

/// A verb that failed, as it goes into the `error` frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// For programs: never changes its meaning.
    pub code: &'static str,
    /// For people, in English.
    pub message: String,
    /// Which field of the request is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'static str>,
}

impl Refusal {
    fn new(code: &'static str, message: impl ToString) -> Self {
        Self { code, message: shortened(&message.to_string()), field: None }
    }

    fn of(field: &'static str, code: &'static str, message: impl ToString) -> Self {
        Self { field: Some(field), ..Self::new(code, message) }
    }

    /// The frame is no JSON object.
    pub fn bad_json(error: &serde_json::Error) -> Self {
        Self::new("bad_json", format_args!("the frame is not a JSON object of this protocol: {error}"))
    }

    /// The frame is binary.
    pub fn binary_frame() -> Self {
        Self::new("binary_frame", "frames are JSON text, not binary")
    }

    /// The frame is too large to be read.
    pub fn frame_too_large(bytes: usize) -> Self {
        Self::new("frame_too_large", format_args!("the frame has {bytes} bytes; at most {MAX_FRAME_BYTES} are allowed"))
    }

    /// No verb of that name.
    pub fn unknown_type(verb: &str) -> Self {
        Self::of("type", "unknown_type", format_args!("there is no verb `{}`", shortened(verb)))
    }

    /// Something that must be there is not.
    pub fn missing_field(field: &'static str) -> Self {
        Self::of(field, "missing_field", format_args!("`{field}` is missing"))
    }

    /// Something is there, but not of the right kind.
    pub fn bad_field(field: &'static str, problem: &str) -> Self {
        Self::of(field, "bad_field", format_args!("`{field}`: {}", shortened(problem)))
    }

    /// The `id` cannot be given back.
    pub fn bad_id(most: usize) -> Self {
        Self::of("id", "bad_id", format_args!("`id` is a number or a text of at most {most} characters"))
    }

    /// Too many verbs wait for their answers.
    pub fn too_many_pending(most: usize) -> Self {
        Self::new("too_many_pending", format_args!("{most} verbs wait for their answers already"))
    }

    /// Something only those in a room may do.
    pub fn not_joined() -> Self {
        Self::new("not_joined", "join a room first")
    }

    /// One socket is in one room.
    pub fn already_joined() -> Self {
        Self::new("already_joined", "this connection is in a room already; leave first, or open another")
    }
}

impl From<RoomGone> for Refusal {
    fn from(error: RoomGone) -> Self {
        match error {
            RoomGone::Closed => Self::new("room_closed", error),
            RoomGone::Busy => Self::new("room_busy", error),
        }
    }
}

impl From<CreateError> for Refusal {
    fn from(error: CreateError) -> Self {
        match &error {
            CreateError::Exists => Self::of("room", "room_exists", error),
            CreateError::Name(_) => Self::of("room", "bad_room_name", error),
            CreateError::Setting { setting, .. } => Self::of(setting, "bad_setting", error),
            CreateError::TooManyRooms { .. } => Self::new("too_many_rooms", error),
            CreateError::PinLocked { .. } => Self::of("pin", "pin_locked", error),
            CreateError::TooFast { .. } => Self::new("too_fast", error),
            CreateError::ShuttingDown => Self::new("shutting_down", error),
        }
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Create(create) => create.into(),
            JoinError::Name(ref name) => nickname(name, &error),
            JoinError::PinRequired => Self::of("pin", "pin_required", error),
            JoinError::WrongPin => Self::of("pin", "wrong_pin", error),
            JoinError::PinLocked { .. } => Self::of("pin", "pin_locked", error),
            JoinError::Full { .. } => Self::new("room_full", error),
            JoinError::ResumeUnknown => Self::of("resume", "resume_unknown", error),
            JoinError::Gone(gone) => gone.into(),
        }
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::NotAllowed => Self::new("not_allowed", error),
            PublishError::ConnectionExists => Self::of("connection", "connection_exists", error),
            PublishError::TooMany { .. } => Self::new("too_many_publications", error),
            PublishError::Offer(negotiation) => negotiation.into(),
            PublishError::Media(media) => media.into(),
            PublishError::TooFast => Self::new("too_fast", error),
            PublishError::NotInRoom => Self::not_joined(),
            PublishError::Gone(gone) => gone.into(),
        }
    }
}

impl From<ConnectionError> for Refusal {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Unknown => Self::of("connection", "no_such_connection", error),
            ConnectionError::CandidateBeforeOffer => Self::of("connection", "candidate_before_offer", error),
            ConnectionError::UnexpectedAnswer => Self::of("connection", "unexpected_answer", error),
            ConnectionError::NoRestart => Self::of("connection", "no_ice_restart", error),
            ConnectionError::TooFast => Self::new("too_fast", error),
            ConnectionError::Sdp(negotiation) => negotiation.into(),
            ConnectionError::TooManyCandidates { .. } => Self::new("too_many_candidates", error),
            ConnectionError::NotInRoom => Self::not_joined(),
            ConnectionError::Gone(gone) => gone.into(),
        }
    }
}

impl From<SubscribeError> for Refusal {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::NoSuchParticipant => Self::of("participant", "no_such_participant", error),
            SubscribeError::NoSuchTrack => Self::of("tracks", "no_such_track", error),
            SubscribeError::Oneself => Self::of("participant", "cannot_subscribe_to_self", error),
            SubscribeError::TooMany { .. } => Self::new("too_many_subscriptions", error),
            SubscribeError::NoMix => Self::of("mix", "mix_unavailable", error),
            SubscribeError::OnlyWithEffects => Self::of("effects", "not_allowed", error),
            SubscribeError::TooFast => Self::new("too_fast", error),
            SubscribeError::NotInRoom => Self::not_joined(),
            SubscribeError::Gone(gone) => gone.into(),
        }
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Name(ref name) => nickname(name, &error),
            ChangeError::NoSuchParticipant => Self::new("no_such_participant", error),
            ChangeError::NoSuchTrack => Self::of("track", "no_such_track", error),
            ChangeError::NoSuchLayer => Self::of("rid", "no_such_layer", error),
            ChangeError::NotAllowed => Self::new("not_allowed", error),
            ChangeError::TooFast => Self::new("too_fast", error),
            ChangeError::TooLong { what, .. } => Self::of(what, "too_long", error),
            ChangeError::Setting { setting, .. } => Self::of(setting, "bad_setting", error),
            ChangeError::Layout(LayoutError { field, .. }) => Self::of(field, "bad_layout", error),
            ChangeError::Effects(effects) => effects.into(),
            ChangeError::NotInRoom => Self::not_joined(),
            ChangeError::Gone(gone) => gone.into(),
        }
    }
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::NotAllowed => Self::new("not_allowed", error),
            RecordError::Setting { setting, .. } => Self::of(setting, "bad_setting", error),
            RecordError::Layout(LayoutError { field, .. }) => Self::of(field, "bad_layout", error),
            RecordError::TooMany { .. } => Self::new("too_many_recordings", error),
            RecordError::TooFast => Self::new("too_fast", error),
            RecordError::NoSuchRecording => Self::of("recording", "no_such_recording", error),
            RecordError::NotRecording => Self::of("recording", "not_recording", error),
            RecordError::BadMarker => Self::of("title", "bad_marker", error),
            RecordError::TooManyMarkers { .. } => Self::of("recording", "too_many_markers", error),
            RecordError::AlreadyPaused => Self::of("recording", "already_paused", error),
            RecordError::NotPaused => Self::of("recording", "not_paused", error),
            RecordError::DiskFull { .. } => Self::new("disk_full", error),
            RecordError::ServerBusy(_) => Self::new("server_busy", error),
            RecordError::CatalogueBusy => Self::new("catalogue_busy", error),
            RecordError::Catalogue(_) => Self::new("catalogue_failed", error),
            RecordError::NotInRoom => Self::not_joined(),
            RecordError::Gone(gone) => gone.into(),
        }
    }
}

impl From<LayoutError> for Refusal {
    fn from(error: LayoutError) -> Self {
        Self::of(error.field, "bad_layout", format_args!("the layout's {error}"))
    }
}

impl From<EffectError> for Refusal {
    fn from(error: EffectError) -> Self {
        match error {
            EffectError::Unknown(_) => Self::of("effects", "no_such_effect", error),
            EffectError::OtherKind { .. } | EffectError::Parameter { .. } => Self::of("effects", "bad_effect", error),
            EffectError::TooMany => Self::of("effects", "too_many_effects", error),
            EffectError::OverBudget { .. } => Self::of("effects", "effects_over_budget", error),
        }
    }
}

impl From<NegotiationError> for Refusal {
    fn from(error: NegotiationError) -> Self {
        match error {
            NegotiationError::NotSdp(_) => Self::of("sdp", "bad_sdp", error),
            NegotiationError::TooLarge(_) => Self::of("sdp", "sdp_too_large", error),
            NegotiationError::NoCommonCodec { .. } => Self::of("sdp", "no_common_codec", error),
            // Nobody offers to receive in this protocol.
            NegotiationError::NothingToReceive | NegotiationError::NothingToSend => {
                Self::of("sdp", "nothing_to_receive", error)
            }
            NegotiationError::NotACandidate(_) => Self::of("candidate", "bad_candidate", error),
        }
    }
}

impl From<MediaError> for Refusal {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::Description(_) => Self::of("sdp", "bad_sdp", error),
            MediaError::DiskFull => Self::new("disk_full", error),
            MediaError::Busy { .. } => Self::new("server_busy", error),
            MediaError::ConnectTimeout(_)
            | MediaError::Handshake(_)
            | MediaError::ConnectionLost
            | MediaError::Element { .. }
            | MediaError::File(_)
            | MediaError::Unavailable(_)
            | MediaError::Deadline { .. } => Self::new("media_failed", error),
        }
    }
}

fn nickname(name: &NameError, error: &dyn std::error::Error) -> Refusal {
    match name {
        NameError::TooLong { .. } => Refusal::of("name", "name_too_long", error),
        NameError::Empty | NameError::Character(_) => Refusal::of("name", "bad_name", error),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_ECHO) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
