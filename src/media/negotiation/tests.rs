//! Offers as Chromium writes them, and what is no offer.

use super::*;

/// An offer in the form Chromium writes, with a section for each text of `sections`.
fn offer(sections: &[&str]) -> String {
    let mut sdp = String::from(
        "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n",
    );
    for section in sections {
        for line in section.lines().map(str::trim).filter(|line| !line.is_empty()) {
            sdp.push_str(line);
            sdp.push_str("\r\n");
        }
    }
    sdp
}

const AUDIO: &str = "
    m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
    c=IN IP4 0.0.0.0
    a=rtcp:9 IN IP4 0.0.0.0
    a=ice-ufrag:Gp9o
    a=ice-pwd:VH1Zb3lTsrh9LT0KfDaDeX8u
    a=ice-options:trickle
    a=fingerprint:sha-256 5A:0F:10:6B:F4:55:0B:E5:38:C3:7E:5F:9A:E7:26:2B:27:5B:9E:8C:65:59:1F:9C:F7:E7:6A:2E:1B:6F:8B:51
    a=setup:actpass
    a=mid:0
    a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
    a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
    a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
    a=sendonly
    a=msid:s t
    a=rtcp-mux
    a=rtcp-rsize
    a=rtpmap:111 opus/48000/2
    a=rtcp-fb:111 transport-cc
    a=fmtp:111 minptime=10;useinbandfec=1
    a=rtpmap:63 red/48000/2
    a=fmtp:63 111/111
    a=rtpmap:9 G722/8000
    a=rtpmap:0 PCMU/8000
    a=rtpmap:8 PCMA/8000
    a=rtpmap:13 CN/8000
    a=rtpmap:110 telephone-event/48000
    a=rtpmap:126 telephone-event/8000
    a=ssrc:1 cname:x";

const VIDEO: &str = "
    m=video 9 UDP/TLS/RTP/SAVPF 96 97 103 104 107 108 109 114 39 40 45 46 98 99 100 101 112 113 116
    c=IN IP4 0.0.0.0
    a=ice-ufrag:Gp9o
    a=ice-pwd:VH1Zb3lTsrh9LT0KfDaDeX8u
    a=fingerprint:sha-256 5A:0F:10:6B:F4:55:0B:E5:38:C3:7E:5F:9A:E7:26:2B:27:5B:9E:8C:65:59:1F:9C:F7:E7:6A:2E:1B:6F:8B:51
    a=setup:actpass
    a=mid:1
    a=extmap:14 urn:ietf:params:rtp-hdrext:toffset
    a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
    a=extmap:13 urn:3gpp:video-orientation
    a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
    a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
    a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id
    a=sendonly
    a=rtcp-mux
    a=rtcp-rsize
    a=rtpmap:96 VP8/90000
    a=rtcp-fb:96 goog-remb
    a=rtcp-fb:96 transport-cc
    a=rtcp-fb:96 ccm fir
    a=rtcp-fb:96 nack
    a=rtcp-fb:96 nack pli
    a=rtpmap:97 rtx/90000
    a=fmtp:97 apt=96
    a=rtpmap:103 H264/90000
    a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f
    a=rtpmap:104 rtx/90000
    a=fmtp:104 apt=103
    a=rtpmap:107 H264/90000
    a=rtcp-fb:107 nack
    a=fmtp:107 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f
    a=rtpmap:108 rtx/90000
    a=fmtp:108 apt=107
    a=rtpmap:109 H264/90000
    a=rtcp-fb:* nack pli
    a=fmtp:109 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
    a=rtpmap:114 rtx/90000
    a=fmtp:114 apt=109
    a=rtpmap:39 H264/90000
    a=fmtp:39 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f
    a=rtpmap:40 rtx/90000
    a=fmtp:40 apt=39
    a=rtpmap:45 AV1/90000
    a=fmtp:45 level-idx=5;profile=0;tier=0
    a=rtpmap:46 rtx/90000
    a=fmtp:46 apt=45
    a=rtpmap:100 VP9/90000
    a=fmtp:100 profile-id=2
    a=rtpmap:98 VP9/90000
    a=fmtp:98 profile-id=0
    a=rtpmap:99 rtx/90000
    a=fmtp:99 apt=98
    a=rtpmap:112 red/90000
    a=rtpmap:113 rtx/90000
    a=fmtp:113 apt=112
    a=rtpmap:116 ulpfec/90000
    a=rid:h send
    a=rid:l send
    a=simulcast:send h;l";

const DATA: &str = "
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel
    c=IN IP4 0.0.0.0
    a=ice-ufrag:Gp9o
    a=ice-pwd:VH1Zb3lTsrh9LT0KfDaDeX8u
    a=fingerprint:sha-256 5A:0F:10:6B:F4:55:0B:E5:38:C3:7E:5F:9A:E7:26:2B:27:5B:9E:8C:65:59:1F:9C:F7:E7:6A:2E:1B:6F:8B:51
    a=setup:actpass
    a=mid:2
    a=sctp-port:5000";

#[test]
fn takes_the_first_common_codec_of_each_section() {
    let sections = accept(&offer(&[AUDIO, VIDEO, DATA]), &CodecName::ALL).unwrap();
    assert_eq!(
        sections,
        [
            AcceptedSection {
                line: 0,
                mid: "0".into(),
                kind: Kind::Audio,
                codec: CodecName::Opus,
                payload: 111,
                rtx: None,
                red: Some(63),
                fmtp: Some("minptime=10;useinbandfec=1".into()),
                feedback: vec!["transport-cc".into()],
                extensions: vec![(1, AUDIO_LEVEL.into()), (3, TRANSPORT_CC.into()), (4, MID.into())],
                layers: vec![],
            },
            AcceptedSection {
                line: 1,
                mid: "1".into(),
                kind: Kind::Video,
                codec: CodecName::Vp8,
                payload: 96,
                rtx: Some(97),
                red: None,
                fmtp: None,
                feedback: vec!["nack".into(), "nack pli".into(), "ccm fir".into(), "transport-cc".into()],
                extensions: vec![
                    (3, TRANSPORT_CC.into()),
                    (4, MID.into()),
                    (10, RID.into()),
                    (11, REPAIRED_RID.into())
                ],
                layers: vec!["h".into(), "l".into()],
            },
        ]
    );
}

#[test]
fn layers_are_taken_only_where_their_packets_are_told_apart() {
    let layers = |video: &str| accept(&offer(&[video]), &CodecName::ALL).unwrap()[0].layers.clone();
    let named =
        |rid: &str| VIDEO.replace("a=rid:h ", &format!("a=rid:{rid} ")).replace("send h;", &format!("send {rid};"));
    assert_eq!(layers(&named("Highest8")), ["Highest8", "l"]);
    for codec in [CodecName::Vp9, CodecName::Av1] {
        assert_eq!(accept(&offer(&[VIDEO]), &[codec]).unwrap()[0].layers, ["h", "l"]);
    }
    for rid in ["Highest_9", "too9chars", "hi-gh", "h_1", "h.1"] {
        assert_eq!(layers(&named(rid)), [""; 0], "{rid}");
    }
    for needed in [MID, RID] {
        assert_eq!(layers(&VIDEO.replace(&format!("{needed}\n"), "urn:x\n")), [""; 0], "{needed}");
    }
}

#[test]
fn the_fan_out_edge_is_given_what_it_can_tell_apart() {
    let suits = |sdp: &str| suits_fanout(sdp, &accept(sdp, &CodecName::ALL).unwrap());
    let both = offer(&[AUDIO, VIDEO]);
    assert!(suits(&both));
    assert!(suits(&both.replace("a=mid:1", "a=mid:Cam_1").replace("BUNDLE 0 1", "BUNDLE 0 Cam_1")));
    for mid in ["cam-1", "cam.1", "cam+1"] {
        let named = both.replace("a=mid:1", &format!("a=mid:{mid}")).replace("BUNDLE 0 1", &format!("BUNDLE 0 {mid}"));
        assert!(!suits(&named), "{mid}");
    }
    let silent = both.replace(MID, "urn:x");
    assert!(!suits(&silent), "nothing tells of the picture");
    assert!(suits(&silent.replace("a=rid:h send", "a=ssrc:2 cname:x")), "both name their sources");
}

#[test]
fn of_h264_takes_constrained_baseline_in_fragments() {
    let section = &accept(&offer(&[VIDEO]), &[CodecName::H264]).unwrap()[0];
    assert_eq!((section.codec, section.payload, section.rtx), (CodecName::H264, 109, Some(114)));
    // A wildcard counts for every payload number.
    assert_eq!(section.feedback, ["nack pli"]);
}

#[test]
fn of_h264_takes_single_nal_mode_only_where_there_is_no_other() {
    let all = [
        ("packetization-mode=0;profile-level-id=42e01f", 10),
        ("profile-level-id=42001f", 11),
        ("packetization-mode=1;profile-level-id=42e01f", 0),
        ("packetization-mode=1;profile-level-id=42001f", 1),
        ("packetization-mode=1", 1),
        ("packetization-mode=1;profile-level-id=4D001f", 2),
        ("packetization-mode=1;profile-level-id=64001f", 3),
        ("packetization-mode=1;profile-level-id=é", 3),
    ];
    for (fmtp, expected) in all {
        assert_eq!(preference(CodecName::H264, Some(fmtp)), expected, "{fmtp}");
    }
}

#[test]
fn of_vp9_takes_profile_0() {
    let section = &accept(&offer(&[VIDEO]), &[CodecName::Vp9]).unwrap()[0];
    assert_eq!((section.payload, section.rtx), (98, Some(99)));
}

#[test]
fn a_section_without_common_codec_refuses_the_offer() {
    let error = accept(&offer(&[AUDIO, VIDEO]), &[CodecName::Vp8]).unwrap_err();
    let NegotiationError::NoCommonCodec { kind, mid, offered, taken } = error else { panic!("{error}") };
    assert_eq!((kind, mid.as_str(), taken.as_str()), ("audio", "0", ""));
    assert_eq!(offered, "opus, red, G722, PCMU, PCMA, CN, telephone-event");
}

#[test]
fn g711_is_taken_where_there_is_no_opus() {
    let first = AUDIO.replace("SAVPF 111 63 9 0 8", "SAVPF 8 0 111 63 9");
    let codec = |audio: &str, codecs: &[CodecName]| accept(&offer(&[audio]), codecs).unwrap()[0].codec;
    assert_eq!(codec(&first, &CodecName::ALL), CodecName::Opus);
    assert_eq!(codec(&first, &[CodecName::Pcmu, CodecName::Pcma]), CodecName::Pcma);
    assert_eq!(codec(&first.replace("opus", "speex"), &CodecName::ALL), CodecName::Pcma);
}

#[test]
fn a_player_without_g711_has_the_picture() {
    let (audio, video) = (AUDIO.replace("sendonly", "recvonly"), VIDEO.replace("sendonly", "recvonly"));
    let only_opus = audio.replace("PCM", "XCM");
    let taken = |audio: &str, codecs: &[CodecName]| {
        let tracks = codecs.iter().map(|codec| (*codec, *codec));
        let sections = accept_subscriber(&offer(&[audio, &video]), tracks)?;
        Ok(sections.into_iter().map(|(track, _)| track).collect::<Vec<_>>())
    };
    let camera = [CodecName::Pcmu, CodecName::H264];
    assert_eq!(taken(&audio, &camera), Ok(camera.to_vec()));
    assert_eq!(taken(&only_opus, &camera), Ok(vec![CodecName::H264]));
    let error = taken(&only_opus, &[CodecName::Pcma]).unwrap_err();
    assert!(matches!(error, NegotiationError::NoCommonCodec { .. }), "{error}");
}

#[test]
fn sections_that_do_not_send_are_left_out() {
    for direction in ["recvonly", "inactive"] {
        let quiet = VIDEO.replace("sendonly", direction);
        let sections = accept(&offer(&[AUDIO, &quiet]), &CodecName::ALL).unwrap();
        assert_eq!(sections.iter().map(|section| section.line).collect::<Vec<_>>(), [0]);
        assert_eq!(accept(&offer(&[&quiet, DATA]), &CodecName::ALL), Err(NegotiationError::NothingToReceive));
    }
    let refused = VIDEO.replace("m=video 9", "m=video 0");
    assert_eq!(accept(&offer(&[&refused]), &CodecName::ALL), Err(NegotiationError::NothingToReceive));
    let bundled = refused.replace("a=mid:1", "a=mid:1\na=bundle-only");
    assert_eq!(accept(&offer(&[&bundled]), &CodecName::ALL).unwrap().len(), 1);
    let default = VIDEO.replace("a=sendonly", "");
    assert_eq!(accept(&offer(&[&default]), &CodecName::ALL).unwrap().len(), 1);
}

#[test]
fn what_is_no_webrtc_description_is_refused() {
    let refused = |sdp: &str| matches!(accept(sdp, &CodecName::ALL), Err(NegotiationError::NotSdp(_)));
    for junk in
        ["", "hello", "v=0", "v=0\r\n", "\0\0\0", "m=video", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"]
    {
        assert!(refused(junk), "{junk:?}");
        assert!(check_answer(junk).is_err(), "{junk:?}");
    }
    for needed in ["a=ice-ufrag", "a=ice-pwd", "a=fingerprint", "a=mid"] {
        assert!(refused(&offer(&[AUDIO, &VIDEO.replace(needed, "a=x")])), "{needed}");
    }
    assert!(refused(&offer(&[AUDIO, VIDEO]).replace("BUNDLE 0 1", "BUNDLE 0")), "not one transport");
    assert!(refused(&offer(&[AUDIO, &VIDEO.replace("a=mid:1", "a=mid:0")])), "two of one name");
    assert!(refused(&offer(&[&VIDEO.replace("a=mid:1", "a=mid:<script>")])), "not a token");
    assert!(refused(&offer(&[&VIDEO.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP")])), "not encrypted");
}

#[test]
fn what_is_too_large_is_refused() {
    let sdp = offer(&[AUDIO]);
    let padded = format!("{sdp}a=x:{}\r\n", "x".repeat(MAX_SDP_BYTES));
    assert!(matches!(accept(&padded, &CodecName::ALL), Err(NegotiationError::TooLarge(_))));
    assert!(matches!(check_answer(&padded), Err(NegotiationError::TooLarge(_))));
    let sections = vec![DATA; MAX_SECTIONS + 1];
    assert!(matches!(accept(&offer(&sections), &CodecName::ALL), Err(NegotiationError::TooLarge(_))));
}

#[test]
fn odd_extension_maps_are_passed_over() {
    let odd =
        AUDIO.replace("a=extmap:1 urn", "a=extmap:1/recvonly urn").replace("a=extmap:3 ", "a=extmap:300 ").replace(
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
            "a=extmap:4/sendonly urn:ietf:params:rtp-hdrext:sdes:mid x=y",
        );
    let section = &accept(&offer(&[&odd]), &CodecName::ALL).unwrap()[0];
    assert_eq!(section.extensions, [(4, MID.to_owned())]);
}

#[test]
fn av1_alone_says_what_its_pictures_are_made_from() {
    let video = VIDEO.replace("a=extmap:13 urn:3gpp:video-orientation", &format!("a=extmap:12 {DEPENDENCIES}"));
    let named = |section: &AcceptedSection| section.extensions.iter().any(|(id, uri)| *id == 12 && uri == DEPENDENCIES);
    for codec in [CodecName::Vp8, CodecName::H264, CodecName::Vp9, CodecName::Av1] {
        let [section] = &accept(&offer(&[&video]), &[codec]).unwrap()[..] else { panic!("one section") };
        assert_eq!(named(section), codec == CodecName::Av1);
        assert!(!named(&section.clone().without_layers()));
        let watches = video.replace("a=sendonly", "a=recvonly");
        let (_, section) = &accept_subscriber(&offer(&[&watches]), [((), codec)]).unwrap()[0];
        assert_eq!(section.extensions.len(), usize::from(codec == CodecName::Av1), "that, and no other");
        assert_eq!(named(section), codec == CodecName::Av1);
    }
}

#[test]
fn takes_the_candidates_that_browsers_write() {
    for good in [
        "",
        "candidate:842163049 1 udp 1677729535 203.0.113.7 55147 typ srflx raddr 0.0.0.0 rport 0 generation 0 ufrag Gp9o network-cost 999",
        "candidate:1 1 UDP 2122252543 4f9a7b5e-1d5d-4b6c-8a54-1f9d4b0fa0d2.local 50000 typ host",
        "candidate:2 1 TCP 2105524479 192.0.2.3 9 typ host tcptype active",
        "candidate:3 2 udp 41885439 2001:db8::1 3478 typ relay raddr ::1 rport 1",
    ] {
        assert_eq!(check_candidate(good), Ok(()), "{good}");
    }
}

#[test]
fn refuses_what_is_no_candidate() {
    let long = format!("candidate:1 1 udp 1 192.0.2.3 9 typ host x {}", "y".repeat(600));
    for bad in [
        "x",
        "candidate:",
        "candidate:1 1 udp 1 192.0.2.3 9 typ",
        "candidate:1 0 udp 1 192.0.2.3 9 typ host",
        "candidate:1 1 udp -1 192.0.2.3 9 typ host",
        "candidate:1 1 udp 1 192.0.2.3 99999 typ host",
        "candidate:1 1 udp 1 192.0.2.3 9 kind host",
        "candidate:1 1 udp 1 192.0.2.3 9 typ host raddr",
        "candidate:1 1 udp 1 <script> 9 typ host",
        "candidate:1 1 udp 1 192.0.2.3 9 typ host\r\na=x y",
        long.as_str(),
    ] {
        assert!(check_candidate(bad).is_err(), "{bad}");
    }
}
