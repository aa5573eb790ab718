//! RTP caps: how GStreamer writes what SDP says of a codec.

use crate::media::{CodecName, Kind};

/// The `a=fmtp` parameters that matter to a receiver, by codec. Others are not passed on: what a
/// client writes there would otherwise end up in every subscriber's offer.
fn known_parameters(codec: CodecName) -> &'static [&'static str] {
    match codec {
        CodecName::Opus => &["minptime", "useinbandfec", "usedtx", "stereo", "sprop-stereo"],
        CodecName::Vp8 | CodecName::Pcmu | CodecName::Pcma => &[],
        CodecName::Vp9 => &["profile-id"],
        CodecName::H264 => &["level-asymmetry-allowed", "packetization-mode", "profile-level-id"],
        CodecName::Av1 => &["profile", "level-idx", "tier"],
    }
}

/// `application/x-rtp` caps of a codec, with the payload number and those parameters of `fmtp` that
/// receivers need.
pub fn rtp_caps(codec: CodecName, payload: u8, fmtp: Option<&str>) -> gst::Caps {
    let mut caps = gst::Caps::builder("application/x-rtp")
        .field("media", if codec.kind() == Kind::Audio { "audio" } else { "video" })
        .field("encoding-name", codec.encoding_name())
        .field("clock-rate", codec.clock_rate() as i32)
        .field("payload", i32::from(payload));
    if let Some(channels) = codec.channels() {
        caps = caps.field("encoding-params", channels.to_string());
    }
    for (name, value) in fmtp.unwrap_or_default().split(';').filter_map(|pair| pair.split_once('=')) {
        let (name, value) = (name.trim(), value.trim());
        let plain = value.len() <= 32 && value.chars().all(|c| c.is_ascii_alphanumeric());
        if plain && let Some(known) = known_parameters(codec).iter().find(|known| known.eq_ignore_ascii_case(name)) {
            caps = caps.field(*known, value);
        }
    }
    caps.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_parameters_are_passed_on() {
        gst::init().unwrap();
        let caps = rtp_caps(CodecName::H264, 102, Some("profile-level-id=42e01f; Packetization-Mode=1;evil=1;x;y=\";"));
        assert_eq!(
            caps.to_string(),
            "application/x-rtp, media=(string)video, encoding-name=(string)H264, clock-rate=(int)90000, \
             payload=(int)102, profile-level-id=(string)42e01f, packetization-mode=(string)1"
        );
    }
}
