//! What players outside the page read: the room's mix as a transport stream, the mix and tracks as RTP; and what
//! receivers elsewhere are sent.

mod push;
mod rtp;
mod ts;

pub(super) use push::RunningPush;
pub(super) use rtp::RtpOutput;
pub(super) use ts::TransportStream;
