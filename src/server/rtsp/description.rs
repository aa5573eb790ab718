//! What a player is told there is (SDP, RFC 4566).

use std::{fmt::Write as _, net::IpAddr};

use crate::media::{CodecName, Kind, rtp::payload_number};

/// A stream of each codec, in this order, controlled at `stream0`, `stream1`, …
pub(super) fn description(codecs: &[CodecName], local: IpAddr) -> String {
    let family = if local.is_ipv4() { "IP4 0.0.0.0" } else { "IP6 ::" };
    let mut sdp = format!(
        "v=0\r\no=- 1 1 IN {family}\r\ns=Salon\r\nc=IN {family}\r\nt=0 0\r\na=control:*\r\na=range:npt=now-\r\n"
    );
    for (stream, codec) in codecs.iter().enumerate() {
        let media = if codec.kind() == Kind::Video { "video" } else { "audio" };
        let (payload, name) = (payload_number(*codec), codec.encoding_name());
        let (rate, channels) = (codec.clock_rate(), codec.channels().map(|it| format!("/{it}")).unwrap_or_default());
        let _ = write!(sdp, "m={media} 0 RTP/AVP {payload}\r\na=rtpmap:{payload} {name}/{rate}{channels}\r\n");
        // Parameter sets come before every keyframe.
        let parameters = match codec {
            CodecName::H264 => Some("packetization-mode=1;profile-level-id=42e01f"),
            CodecName::Opus => Some("sprop-stereo=1"),
            CodecName::Vp8 | CodecName::Vp9 | CodecName::Av1 | CodecName::Pcmu | CodecName::Pcma => None,
        };
        if let Some(parameters) = parameters {
            let _ = write!(sdp, "a=fmtp:{payload} {parameters}\r\n");
        }
        let _ = write!(sdp, "a=control:stream{stream}\r\n");
    }
    sdp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_and_a_sound_are_described() {
        let sdp = description(&[CodecName::H264, CodecName::Opus], IpAddr::from([127, 0, 0, 1]));
        let session = sdp_types::Session::parse(sdp.as_bytes()).unwrap();
        let [video, audio] = &session.medias[..] else { panic!("{sdp}") };
        assert_eq!((video.media.as_str(), video.fmt.as_str()), ("video", "102"));
        assert_eq!((audio.media.as_str(), audio.fmt.as_str()), ("audio", "111"));
        assert!(
            sdp.contains("a=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\na=control:stream0\r\n"),
            "{sdp}"
        );
        assert!(
            sdp.contains("a=rtpmap:111 OPUS/48000/2\r\na=fmtp:111 sprop-stereo=1\r\na=control:stream1\r\n"),
            "{sdp}"
        );
    }
}
