//! What can go wrong, one enum per operation, listing only what that operation can answer.
//! Each dialect maps these to its own codes with a `match` that has no wildcard.

use thiserror::Error;

use crate::effect::EffectError;
use crate::media::{LayoutError, MediaError, negotiation::NegotiationError};

/// The room could not take the request at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RoomGone {
    /// It closed before, or while, it was asked.
    #[error("the room is closed")]
    Closed,
    /// Its queue is full: try again in a moment.
    #[error("the room is busy")]
    Busy,
}

/// A text that a person typed is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing but white space.
    #[error("it is empty")]
    Empty,
    /// Longer than allowed.
    #[error("it has {length} characters; at most {most} are allowed")]
    TooLong {
        /// How many it has.
        length: usize,
        /// How many it may have.
        most: usize,
    },
    /// A control character, a line break, a text-direction override, or (in room names) anything
    /// that would not stand in a URL path.
    #[error("the character {0:?} is not allowed")]
    Character(char),
}

/// Creating a room failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CreateError {
    /// There is one of that name.
    #[error("a room of that name exists")]
    Exists,
    /// The name is not acceptable.
    #[error("that room name cannot be used: {0}")]
    Name(NameError),
    /// A setting is out of its range.
    #[error("`{setting}` {problem}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// The server holds as many rooms as it may.
    #[error("the server holds {most} rooms, which is its limit")]
    TooManyRooms {
        /// The limit.
        most: usize,
    },
    /// Rooms of that name were opened with a PIN too often; wait.
    #[error("rooms of that name were opened with a PIN too often; try again in {wait_s} s")]
    PinLocked {
        /// How long, in seconds.
        wait_s: u64,
    },
    /// Rooms were made from one address too fast; wait.
    #[error("too many rooms were made from your address; try again in {wait_s} s")]
    TooFast {
        /// How long, in seconds.
        wait_s: u64,
    },
    /// The server is going down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// Joining failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum JoinError {
    /// The room could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The nickname is not acceptable.
    #[error("that nickname cannot be used: {0}")]
    Name(NameError),
    /// The room asks for a PIN and none was given.
    #[error("the room asks for a PIN")]
    PinRequired,
    /// The PIN is not the room's.
    #[error("that is not the room's PIN")]
    WrongPin,
    /// Too many wrong PINs; wait.
    #[error("too many wrong PINs; try again in {wait_s} s")]
    PinLocked {
        /// How long, in seconds.
        wait_s: u64,
    },
    /// As many as may are in.
    #[error("the room is full ({most} participants)")]
    Full {
        /// The limit.
        most: usize,
    },
    /// The resume token is unknown or its time is over: join afresh.
    #[error("that resume token is no longer good")]
    ResumeUnknown,
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}

/// Adding or removing a push failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OutputError {
    /// As many as one room may have.
    #[error("at most {most} outputs of one room")]
    TooMany {
        /// The limit.
        most: usize,
    },
    /// Nothing here can mix: an encoder is missing.
    #[error("the room's mix cannot be made; see /api/server")]
    NoMix,
    /// There is none of that identifier.
    #[error("there is no such output")]
    Unknown,
    /// Moderators add and remove them.
    #[error("only a moderator may do that")]
    NotAllowed,
    /// You are not, or no longer, in the room.
    #[error("not in the room")]
    NotInRoom,
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}

/// Adding or removing an ingest failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IngestError {
    /// The name is not acceptable.
    #[error("that name cannot be used: {0}")]
    Name(NameError),
    /// As many participants as may are in.
    #[error("the room is full ({most} participants)")]
    Full {
        /// The limit.
        most: usize,
    },
    /// As many ingests as one room may have.
    #[error("at most {most} ingests in one room")]
    TooMany {
        /// The limit.
        most: usize,
    },
    /// There is none of that identifier.
    #[error("there is no such ingest")]
    Unknown,
    /// Moderators add and remove them.
    #[error("only a moderator may do that")]
    NotAllowed,
    /// You are not, or no longer, in the room.
    #[error("not in the room")]
    NotInRoom,
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}

/// Publishing failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PublishError {
    /// Viewers do not publish.
    #[error("a viewer may not publish")]
    NotAllowed,
    /// That name is taken by one of your own connections.
    #[error("a connection of that name exists")]
    ConnectionExists,
    /// As many publications as one participant may have.
    #[error("at most {most} publications at once")]
    TooMany {
        /// The limit.
        most: usize,
    },
    /// More connections than a client has reason to ask for; wait.
    #[error("too many connections asked for; wait a moment")]
    TooFast,
    /// The offer cannot be taken.
    #[error(transparent)]
    Offer(#[from] NegotiationError),
    /// The engine failed.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// You are not, or no longer, in the room.
    #[error("not in the room")]
    NotInRoom,
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}

/// Something about one connection (answer, candidate, unpublish, unsubscribe) failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ConnectionError {
    /// There is none of that name, or it has ended.
    #[error("no such connection")]
    Unknown,
    /// A candidate for a connection that was not offered yet.
    #[error("a candidate came before its offer")]
    CandidateBeforeOffer,
    /// This connection waits for no answer.
    #[error("no answer is expected on that connection")]
    UnexpectedAnswer,
    /// What carries this connection has one ICE session; a new connection has another.
    #[error(
        "this connection's ICE cannot be restarted, or is being restarted; if it does not come back, begin a new connection"
    )]
    NoRestart,
    /// More often than a client has reason to; wait.
    #[error("too many restarts and connections asked for; wait a moment")]
    TooFast,
    /// The answer or candidate cannot be taken.
    #[error(transparent)]
    Sdp(#[from] NegotiationError),
    /// More candidates than any real client sends.
    #[error("at most {most} candidates a connection")]
    TooManyCandidates {
        /// The limit.
        most: usize,
    },
    /// You are not, or no longer, in the room.
    #[error("not in the room")]
    NotInRoom,
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}

/// Subscribing failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SubscribeError {
    /// No such participant.
    #[error("no such participant")]
    NoSuchParticipant,
    /// That track does not exist (any more).
    #[error("no such track")]
    NoSuchTrack,
    /// One does not watch oneself, but for single tracks.
    #[error("a participant cannot subscribe to himself; name the tracks to see yourself as others do")]
    Oneself,
    /// A role that may not take somebody's effects off may not see past them either.
    #[error("your role does not allow to see others without their effects")]
    OnlyWithEffects,
    /// More connections than a client has reason to ask for; wait.
    #[error("too many connections asked for; wait a moment")]
    TooFast,
    /// As many subscriptions as one participant may have.
    #[error("at most {most} subscriptions at once")]
    TooMany {
        /// The limit.
        most: usize,
    },
    /// This machine cannot mix.
    #[error("this server cannot mix: an encoder is missing (`salon doctor` says which)")]
    NoMix,
    /// You are not, or no longer, in the room.
    #[error("not in the room")]
    NotInRoom,
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}

/// Watching something over a connection of one's own offer failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum WatchError {
    /// Nobody publishes anything.
    #[error("nobody publishes in the room")]
    NothingPublished,
    /// That track does not exist (any more).
    #[error("no such track")]
    NoSuchTrack,
    /// This machine cannot mix.
    #[error("this server cannot mix: an encoder is missing (`salon doctor` says which)")]
    NoMix,
    /// As many subscriptions as one participant may have.
    #[error("at most {most} subscriptions at once")]
    TooMany {
        /// The limit.
        most: usize,
    },
    /// More connections than a client has reason to ask for; wait.
    #[error("too many connections asked for; wait a moment")]
    TooFast,
    /// The offer cannot be taken.
    #[error(transparent)]
    Offer(#[from] NegotiationError),
    /// The engine failed.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// You are not, or no longer, in the room.
    #[error("not in the room")]
    NotInRoom,
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}

/// A change to oneself, a track or a participant (rename, mute, remove, signal) failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ChangeError {
    /// The nickname is not acceptable.
    #[error("that nickname cannot be used: {0}")]
    Name(NameError),
    /// No such participant.
    #[error("no such participant")]
    NoSuchParticipant,
    /// No such track.
    #[error("no such track")]
    NoSuchTrack,
    /// The track has no layer of that rid.
    #[error("the track has no such layer; `layers` of the track names them")]
    NoSuchLayer,
    /// The role does not allow it.
    #[error("your role does not allow that")]
    NotAllowed,
    /// More than a person would send; wait.
    #[error("too many messages; wait a moment")]
    TooFast,
    /// A signal's kind or data is too long.
    #[error("the {what} is too long (at most {most} bytes)")]
    TooLong {
        /// `kind` or `data`.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// A setting is out of its range.
    #[error("`{setting}` {problem}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// The layout cannot be.
    #[error("the layout's {0}")]
    Layout(#[from] LayoutError),
    /// The effects cannot be.
    #[error(transparent)]
    Effects(#[from] EffectError),
    /// You are not, or no longer, in the room.
    #[error("not in the room")]
    NotInRoom,
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}

/// A picture was not taken, shown or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PicturesError {
    /// Viewers give none.
    #[error("only those who publish give pictures to a room")]
    NotAllowed,
    /// As many as a room keeps.
    #[error("the room keeps {most} pictures already; remove one first")]
    TooMany {
        /// The limit.
        most: usize,
    },
    /// It is not there.
    #[error("the room has no such picture")]
    Unknown,
    /// An effect or a layout shows it.
    #[error("an effect or a layout shows this picture; take it off first")]
    InUse,
    /// You are not, or no longer, in the room.
    #[error("not in the room")]
    NotInRoom,
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}

/// There is no preview of an effect.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PreviewError {
    /// Whoever may not put effects there does not try them either.
    #[error("your role does not allow that")]
    NotAllowed,
    /// No such track.
    #[error("no such track")]
    NoSuchTrack,
    /// Sound, or a picture that is switched off.
    #[error("there is no picture to show the effect on: the track is sound, or muted")]
    NoPicture,
    /// The effect cannot be.
    #[error(transparent)]
    Effects(#[from] EffectError),
    /// Another preview of the room is being made, or more are asked for than anybody looks at.
    #[error("another preview is being made in this room; try again in a moment")]
    TooFast,
    /// You are not, or no longer, in the room.
    #[error("not in the room")]
    NotInRoom,
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}

/// Nobody listens to the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ListenError {
    /// As many as may listen do.
    #[error("{most} listen to this room already")]
    TooMany {
        /// The limit.
        most: usize,
    },
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}

/// Starting or stopping a recording failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum RecordError {
    /// The role does not allow it.
    #[error("only a moderator may record")]
    NotAllowed,
    /// A setting is out of its range.
    #[error("`{setting}` {problem}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// The layout cannot be.
    #[error("the layout's {0}")]
    Layout(#[from] LayoutError),
    /// As many recordings of one room as may run at once.
    #[error("at most {most} recordings of a room at once")]
    TooMany {
        /// The limit.
        most: usize,
    },
    /// Too much was asked of recordings in too short a time.
    #[error("too fast; try again in a moment")]
    TooFast,
    /// No recording of that id runs in this room.
    #[error("no such recording is running")]
    NoSuchRecording,
    /// It is not being written: it has not begun yet, or is over.
    #[error("the recording is not being written: it has not begun yet, or is over")]
    NotRecording,
    /// A marker's title is not one.
    #[error("a marker's title has 1 to 128 printable characters")]
    BadMarker,
    /// As many markers as one recording may have.
    #[error("at most {most} markers in a recording")]
    TooManyMarkers {
        /// The limit.
        most: usize,
    },
    /// It is paused.
    #[error("the recording is paused already")]
    AlreadyPaused,
    /// It runs.
    #[error("the recording is not paused")]
    NotPaused,
    /// The disk's reserve is reached.
    #[error("the disk is too full to record ({free_bytes} bytes free, {reserve_bytes} kept in reserve)")]
    DiskFull {
        /// Free now.
        free_bytes: u64,
        /// What is never used.
        reserve_bytes: u64,
    },
    /// The server makes as many mixes as it may.
    #[error("{0}")]
    ServerBusy(MediaError),
    /// The catalogue has much to do; later it will.
    #[error("the catalogue is behind; try again in a moment")]
    CatalogueBusy,
    /// The catalogue could not be written.
    #[error("the recording could not be noted in the catalogue: {0}")]
    Catalogue(String),
    /// You are not, or no longer, in the room.
    #[error("not in the room")]
    NotInRoom,
    /// The room went away.
    #[error(transparent)]
    Gone(#[from] RoomGone),
}
