//! The names of things: small newtypes, so that a track is never passed where a participant was meant.
//!
//! Identifiers are made here and nowhere else, from the system's random source; they are safe in a
//! URL, in a file name and in a DOT graph. What a person types (room names, nicknames) is checked in
//! [`super::policy`].

use std::{fmt, str::FromStr, sync::Arc};

use rand::{Rng, distr::Alphanumeric};
use serde::{Deserialize, Serialize};

/// Makes `length` characters of `[0-9A-Za-z]` from the thread's cryptographic generator.
pub fn random_text(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new one, random.
            pub fn random() -> Self {
                Self(format!(concat!($prefix, "{}"), random_text($length)).into())
            }

            /// Its text, as it stands in messages, logs and URLs.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = std::convert::Infallible;
            /// Any text will do: an identifier that nobody made is simply not found.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Somebody in a room: 12 random characters after `p_`. Kept across a resume.
    ParticipantId, "p_", 12
);
text_id!(
    /// One audio or video flow of a participant.
    TrackId, "t_", 12
);
text_id!(
    /// A recording, and the stem of its file name. Never taken from a client.
    RecordingId, "rec_", 16
);
text_id!(
    /// A receiver elsewhere that a room's mix is pushed to.
    OutputId, "out_", 12
);
text_id!(
    /// A picture that somebody gave to a room, for its effects and its layouts' logo.
    PictureId, "pic_", 12
);
text_id!(
    /// What a client shows to come back as the same participant: 32 random characters, a secret.
    ResumeToken, "r_", 32
);
text_id!(
    /// What a participant shows to the HTTP API (his room's recordings), a secret: his room's number
    /// and 32 random characters.
    AccessToken, "a_", 32
);

impl AccessToken {
    /// A new one for a room: its number stands in front of the secret, so that a token that somebody
    /// shows is looked for in one room.
    pub fn of_room(number: u64) -> Self {
        Self(format!("a_{number:x}_{}", random_text(32)).into())
    }

    /// The number of the room that it is for, if we can have made it.
    pub fn room_number(&self) -> Option<u64> {
        let (number, secret) = self.0.strip_prefix("a_")?.split_once('_')?;
        u64::from_str_radix(number, 16).ok().filter(|_| secret.len() == 32)
    }
}

/// The name of a PeerConnection, unique within one participant.
///
/// The client chooses it for what it publishes; the room chooses it for what the participant
/// subscribes to (`s_` and random characters).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[serde(transparent)]
pub struct ConnectionName(pub Arc<str>);

impl ConnectionName {
    /// A name for a subscription.
    pub fn random() -> Self {
        Self(format!("s_{}", random_text(12)).into())
    }

    /// A publication's name towards the media engine. What the client calls it stays in the room:
    /// that text is his, and he may use it again.
    pub fn random_publication() -> Self {
        Self(format!("pub_{}", random_text(12)).into())
    }
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A PeerConnection as the media engine knows it: whose, and which of his. Never used twice.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId {
    /// Whose connection it is.
    pub participant: ParticipantId,
    /// Its name among that participant's connections.
    pub name: ConnectionName,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.participant, self.name)
    }
}
