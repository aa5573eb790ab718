//! Recordings as files and catalogue entries. Pipelines that write them are in [`crate::media`].
//!
//! A room tells the keeper what happens to its recordings as [`RecordingNotice`]s; the keeper owns
//! the catalogue and the files, and answers through the room's handle.

pub mod album;
pub mod catalogue;
pub mod chat;
pub mod keeper;
pub mod minutes;
pub mod mp4;
pub mod removal;
pub mod store;
pub mod tracks;
pub mod webm;

pub use catalogue::{Catalogue, Recording};
pub use keeper::Keeper;
pub use minutes::Minutes;

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    media::{MediaError, RecordingSpec},
    room::{RoomHandle, id::RecordingId, model::Marker},
};

/// What a room tells the keeper, in order, for each recording.
#[derive(Debug)]
pub enum RecordingNotice {
    /// A recording was asked for: note it, choose its file, and say so with
    /// [`RoomHandle::journalled`]. Nothing is written before.
    Begin {
        /// Which.
        recording: RecordingId,
        /// Whom to tell.
        room: RoomHandle,
        /// Which room, and behind which PIN: decides who may see it later.
        key: RoomKey,
        /// As asked for.
        spec: RecordingSpec,
    },
    /// Its first frame was written.
    Started {
        /// Which.
        recording: RecordingId,
        /// When.
        at: Timestamp,
    },
    /// It was paused or resumed.
    Paused {
        /// Which.
        recording: RecordingId,
        /// It is paused now.
        paused: bool,
        /// How long all pauses that are over were together.
        total: Duration,
    },
    /// A moment of it was named.
    Marked {
        /// Which.
        recording: RecordingId,
        /// When and what.
        marker: Marker,
    },
    /// Something was written in its room, for everybody.
    Said {
        /// Which.
        recording: RecordingId,
        /// When, who and what.
        message: chat::Message,
    },
    /// Somebody came, spoke or changed the layout. [`Ended`](Self::Ended) has it all once more: this is for the
    /// case that it never comes.
    Noted {
        /// Which.
        recording: RecordingId,
        /// What, in order.
        entries: Vec<minutes::Entry>,
    },
    /// Its file is closed: finalise it and say so with [`RoomHandle::kept`], twice: once it is
    /// `finalising`, and once it is `ready` or `failed`.
    Ended {
        /// Which.
        recording: RecordingId,
        /// `Err` if the engine gave up; the file still plays up to there.
        result: Result<(), MediaError>,
        /// When.
        at: Timestamp,
        /// Who was in it, who spoke when, what it was shown in.
        minutes: Minutes,
    },
    /// A room's task broke down, and its media went with it: what it still recorded is over.
    RoomFailed {
        /// Which room.
        room: RoomHandle,
    },
}

/// What decides who sees a recording later: whoever is in a room of the same name and PIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomKey {
    /// The room's name.
    pub name: String,
    /// Its PIN when the recording began.
    pub pin: Option<String>,
}
