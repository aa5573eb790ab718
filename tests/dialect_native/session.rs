//! The session alone: no socket, no channel, no room.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use salon::{
    dialect::native::{
        message::{MAX_FRAME_BYTES, Verb, parse},
        session::{Greeting, MAX_PENDING, Output, Reply, Session, Ticket},
    },
    effect::EffectRequest,
    media::{CodecName, IceCandidate, Kind, LayerChoice, LayoutSpec},
    room::{
        error::{ChangeError, JoinError, NameError},
        event::{CloseReason, LeaveReason, RoomEvent, SpeakingLevel},
        id::{AccessToken, ConnectionName, ParticipantId, ResumeToken, TrackId},
        model::{EffectsOf, JoinRequest, Joined, Role, RoomSettings, RoomView, Source, Subscribe, Unsubscribe},
    },
};
use serde_json::{Value, json};

fn session() -> Session {
    Session::new(Arc::new(Greeting { ice_servers: json!([]), version: "1".into(), srt: None }))
}

fn joined() -> Joined {
    Joined {
        participant: "p_me".parse().unwrap(),
        role: Role::Moderator,
        resume: "r_token".parse::<ResumeToken>().unwrap(),
        access: "a_token".parse::<AccessToken>().unwrap(),
        room: RoomView {
            layout: LayoutSpec::default(),
            effects: vec![],
            name: "r".into(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            has_pin: false,
            max_participants: 50,
            participants: vec![],
            recordings: vec![],
            outputs: vec![],
        },
        resumed: false,
    }
}

/// Splits outputs into frames, actions, and the close code.
fn sorted(outputs: Vec<Output>) -> (Vec<Value>, Vec<(Ticket, Verb)>, Option<u16>) {
    let (mut frames, mut actions, mut closed) = (Vec::new(), Vec::new(), None);
    for output in outputs {
        match output {
            Output::Send(text) => frames.push(serde_json::from_str(&text).expect("frames are JSON")),
            Output::Do(ticket, verb) => actions.push((ticket, verb)),
            Output::Close(code, _) => closed = Some(code),
        }
    }
    (frames, actions, closed)
}

fn inside() -> Session {
    let mut session = session();
    let (_, mut actions, _) = sorted(session.text(r#"{"type":"join","room":"r","name":"a"}"#));
    let (ticket, _) = actions.remove(0);
    let (frames, ..) = sorted(session.reply(ticket, Reply::Joined(Ok(Box::new(joined())))));
    assert_eq!(frames, Vec::<Value>::new(), "no id, no ok");
    session
}

fn verb(text: &str) -> Verb {
    parse(text).unwrap_or_else(|(_, refusal)| panic!("{text}: {refusal:?}")).verb
}

fn refusal(text: &str) -> (&'static str, Option<&'static str>) {
    let (_, refusal) = parse(text).expect_err(text);
    (refusal.code, refusal.field)
}

fn connection(name: &str) -> ConnectionName {
    ConnectionName(name.into())
}

#[test]
fn verbs_are_read() {
    let pin = Some("1".to_owned());
    let codecs = Some(vec![CodecName::Vp8, CodecName::Opus]);
    assert_eq!(
        verb(r#"{"type":"create","room":"r","pin":"1","max_participants":4,"linger_s":9,"codecs":["VP8","opus"]}"#),
        Verb::Create {
            room: "r".into(),
            settings: Box::new(RoomSettings {
                pin: pin.clone(),
                max_participants: Some(4),
                codecs,
                recording: None,
                linger_s: Some(9)
            }),
        }
    );
    assert_eq!(
        verb(r#"{"type":"join","room":"r","name":"n","pin":"1","role":"viewer","from the future":1}"#),
        Verb::Join {
            room: "r".into(),
            request: JoinRequest { name: "n".into(), pin, role: Some(Role::Viewer), from: Default::default() }
        }
    );
    let all: [(&str, Verb); 18] = [
        (
            r#"{"type":"subscribe","participant":"p","effects":false}"#,
            Verb::Subscribe(Subscribe::Participant { participant: "p".parse().unwrap(), tracks: None, effects: false }),
        ),
        (r#"{"type":"subscribe","all":true}"#, Verb::Subscribe(Subscribe::All)),
        (r#"{"type":"unsubscribe","all":true}"#, Verb::Unsubscribe(Unsubscribe::All)),
        (r#"{"type":"subscribe","mix":true}"#, Verb::Subscribe(Subscribe::Mix)),
        (r#"{"type":"unsubscribe","mix":true}"#, Verb::Unsubscribe(Unsubscribe::Mix)),
        (r#"{"type":"unsubscribe","connection":"c"}"#, Verb::CloseConnection(connection("c"))),
        (r#"{"type":"unpublish","connection":"c"}"#, Verb::CloseConnection(connection("c"))),
        (
            r#"{"type":"candidate","connection":"c","candidate":null}"#,
            Verb::Candidate {
                connection: connection("c"),
                candidate: IceCandidate { candidate: String::new(), mid: None, line: None },
            },
        ),
        (r#"{"type":"signal","kind":"k","data":null}"#, Verb::Signal { kind: "k".into(), to: None, data: Value::Null }),
        (r#"{"type":"record","action":"start"}"#, Verb::Record(Box::default())),
        (
            r#"{"type":"effects","effects":[{"name":"blur"}]}"#,
            Verb::Effects { of: None, chain: vec![EffectRequest { name: "blur".into(), ..Default::default() }] },
        ),
        (
            r#"{"type":"effects","track":"t","effects":[]}"#,
            Verb::Effects { of: Some(EffectsOf::Track("t".parse().unwrap())), chain: vec![] },
        ),
        (r#"{"type":"effects","mix":true,"effects":[]}"#, Verb::Effects { of: Some(EffectsOf::Mix), chain: vec![] }),
        (
            r#"{"type":"effects","participant":"p","effects":[]}"#,
            Verb::Effects { of: Some(EffectsOf::Participant("p".parse().unwrap())), chain: vec![] },
        ),
        (
            r#"{"type":"layer","track":"t","rid":"h"}"#,
            Verb::Layer { track: "t".parse().unwrap(), layer: LayerChoice::Named("h".into()) },
        ),
        (
            r#"{"type":"layer","track":"t","height":180}"#,
            Verb::Layer { track: "t".parse().unwrap(), layer: LayerChoice::Height(180) },
        ),
        (r#"{"type":"layer","track":"t"}"#, Verb::Layer { track: "t".parse().unwrap(), layer: LayerChoice::Largest }),
        (r#"{"type":"leave"}"#, Verb::Leave),
    ];
    for (text, expected) in all {
        assert_eq!(verb(text), expected, "{text}");
    }
    let publish = r#"{"type":"publish","connection":"c","sdp":"s","tracks":[{"mid":"0","source":"screen"},{"mid":"1","muted":true}]}"#;
    let sources = vec![("0".into(), Some(Source::Screen), false), ("1".into(), None, true)];
    assert_eq!(verb(publish), Verb::Publish { connection: connection("c"), sdp: "s".into(), sources });
}

#[test]
fn each_fault_of_a_frame_is_told_apart() {
    let long_id = format!(r#"{{"id":"{}","type":"leave"}}"#, "x".repeat(65));
    let large = format!(r#"{{"type":"signal","kind":"chat","data":"{}"}}"#, "x".repeat(MAX_FRAME_BYTES));
    let deep = format!(r#"{{"type":"signal","kind":"chat","data":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let many = format!(r#"{{"type":"signal","kind":"k","data":1,"to":{}}}"#, json!(vec!["p"; 257]));
    let name = format!(r#"{{"type":"unpublish","connection":"{}"}}"#, "x".repeat(65));
    for (text, expected) in [
        ("", ("bad_json", None)),
        ("1", ("bad_json", None)),
        (r#"{"type":"leave"} {}"#, ("bad_json", None)),
        (r#"{"type":"leave","x":1,"x":2}"#, ("bad_json", None)),
        (r#"{"type":"leave","x":1e999}"#, ("bad_json", None)),
        (&deep, ("bad_json", None)),
        (&large, ("frame_too_large", None)),
        (&long_id, ("bad_id", Some("id"))),
        (r#"{"id":true,"type":"leave"}"#, ("bad_id", Some("id"))),
        ("{}", ("missing_field", Some("type"))),
        (r#"{"type":5}"#, ("bad_field", Some("type"))),
        (r#"{"type":"Leave"}"#, ("unknown_type", Some("type"))),
        (r#"{"type":"rename","name":null}"#, ("missing_field", Some("name"))),
        (r#"{"type":"mute","track":"t","muted":"yes"}"#, ("bad_field", Some("muted"))),
        (r#"{"type":"layer","track":"t","height":-1}"#, ("bad_field", Some("height"))),
        (r#"{"type":"layer","track":"t","height":9,"rid":"h"}"#, ("bad_field", Some("height"))),
        (r#"{"type":"create","room":"r","linger_s":-1}"#, ("bad_field", Some("linger_s"))),
        (r#"{"type":"create","room":"r","codecs":["H263"]}"#, ("bad_field", Some("codecs"))),
        (r#"{"type":"subscribe"}"#, ("missing_field", Some("participant"))),
        (r#"{"type":"subscribe","all":true,"participant":"p"}"#, ("bad_field", Some("all"))),
        (r#"{"type":"subscribe","all":true,"tracks":["t"]}"#, ("bad_field", Some("tracks"))),
        (r#"{"type":"unsubscribe"}"#, ("missing_field", Some("participant"))),
        (r#"{"type":"unsubscribe","all":true,"connection":"c"}"#, ("bad_field", Some("all"))),
        (r#"{"type":"candidate","connection":"c"}"#, ("missing_field", Some("candidate"))),
        (r#"{"type":"candidate","connection":"c","candidate":"c"}"#, ("bad_field", Some("candidate"))),
        (r#"{"type":"record","action":"start","width":-5}"#, ("bad_field", Some("width"))),
        (r#"{"type":"effects","mix":true,"track":"t","effects":[]}"#, ("bad_field", Some("mix"))),
        (r#"{"type":"effects","participant":"p","track":"t","effects":[]}"#, ("bad_field", Some("track"))),
        (r#"{"type":"effects"}"#, ("missing_field", Some("effects"))),
        (r#"{"type":"effects","mix":true,"participant":"p","effects":[]}"#, ("bad_field", Some("mix"))),
        (r#"{"type":"effects","effects":[{"name":"blur","launch":"fakesink"}]}"#, ("bad_field", Some("effects"))),
        (&many, ("bad_field", Some("to"))),
        (&name, ("bad_field", Some("connection"))),
    ] {
        assert_eq!(refusal(text), expected, "{}", &text[..text.len().min(80)]);
    }
}

#[test]
fn an_id_comes_back_as_it_was_written() {
    for id in [json!(7), json!(-1.5), json!(18446744073709551615u64), json!("x".repeat(64)), json!("")] {
        let mut session = session();
        let (frames, ..) = sorted(session.text(&json!({ "id": id, "type": "fly" }).to_string()));
        assert_eq!((&frames[0]["id"], &frames[0]["code"]), (&id, &json!("unknown_type")));
    }
}

#[test]
fn a_refusal_echoes_little_of_what_was_sent() {
    let (_, refusal) = parse(&json!({ "type": "x".repeat(100_000) }).to_string()).unwrap_err();
    assert!(refusal.message.len() < 1000, "{}", refusal.message.len());
    let (_, refusal) =
        parse(&json!({ "type": "join", "room": "r", "name": "n", "role": "x".repeat(9999) }).to_string()).unwrap_err();
    assert!(refusal.message.len() < 1000, "{}", refusal.message.len());
}

#[test]
fn what_follows_a_join_waits_for_its_answer_and_keeps_its_order() {
    let mut session = session();
    let (_, mut actions, _) = sorted(session.text(r#"{"id":1,"type":"join","room":"r","name":"a"}"#));
    assert_eq!(sorted(session.text(r#"{"id":2,"type":"rename","name":"b"}"#)), (vec![], vec![], None));
    assert_eq!(sorted(session.text(r#"{"id":3,"type":"leave"}"#)), (vec![], vec![], None));
    let (frames, actions, _) = sorted(session.reply(actions.remove(0).0, Reply::Joined(Ok(Box::new(joined())))));
    assert_eq!((&frames[0]["id"], &frames[0]["type"]), (&json!(1), &json!("ok")));
    assert_eq!(actions.into_iter().map(|(_, verb)| verb).collect::<Vec<_>>(), [Verb::Rename("b".into()), Verb::Leave]);
}

#[test]
fn after_a_join_that_failed_what_waited_is_refused_or_tried() {
    let mut session = session();
    let (_, mut actions, _) = sorted(session.text(r#"{"id":1,"type":"join","room":"r","name":"a"}"#));
    session.text(r#"{"id":2,"type":"rename","name":"b"}"#);
    session.text(r#"{"id":3,"type":"join","room":"r","name":"a","pin":"1"}"#);
    session.text(r#"{"id":4,"type":"leave"}"#);
    let (frames, mut actions, _) =
        sorted(session.reply(actions.remove(0).0, Reply::Joined(Err(JoinError::PinRequired))));
    let codes: Vec<_> = frames.iter().map(|frame| (&frame["id"], &frame["code"])).collect();
    assert_eq!(codes, [(&json!(1), &json!("pin_required")), (&json!(2), &json!("not_joined"))]);
    assert_eq!(actions.len(), 1, "the second join; the leave waits for it");
    let (frames, actions, _) = sorted(session.reply(actions.remove(0).0, Reply::Joined(Ok(Box::new(joined())))));
    assert_eq!(frames[0]["id"], 3);
    assert_eq!(actions[0].1, Verb::Leave);
}

#[test]
fn verbs_that_wait_are_bounded() {
    let mut session = inside();
    let mut tickets = Vec::new();
    for _ in 0..MAX_PENDING {
        let (_, actions, _) = sorted(session.text(r#"{"id":1,"type":"rename","name":"b"}"#));
        tickets.extend(actions);
    }
    let (frames, actions, _) = sorted(session.text(r#"{"id":2,"type":"rename","name":"b"}"#));
    assert_eq!((&frames[0]["id"], &frames[0]["code"], actions.len()), (&json!(2), &json!("too_many_pending"), 0));
    session.reply(tickets.pop().unwrap().0, Reply::Changed(Ok(())));
    let (_, actions, _) = sorted(session.text(r#"{"id":3,"type":"rename","name":"b"}"#));
    assert_eq!(actions.len(), 1);
    // While a join is out, what waits counts too.
    let mut session = self::session();
    session.text(r#"{"type":"join","room":"r","name":"a"}"#);
    let refused = (0..MAX_PENDING).flat_map(|_| sorted(session.text(r#"{"id":1,"type":"leave"}"#)).0).count();
    assert_eq!(refused, 1);
}

#[test]
fn leaving_and_being_removed_end_the_session() {
    let mut session = inside();
    let (_, mut actions, _) = sorted(session.text(r#"{"id":9,"type":"leave"}"#));
    let (frames, _, closed) = sorted(session.reply(actions.remove(0).0, Reply::Left));
    assert_eq!((frames, closed), (vec![json!({ "id": 9, "type": "ok" })], Some(1000)));
    assert!(session.text(r#"{"id":10,"type":"leave"}"#).is_empty() && session.binary().is_empty());

    let mut session = inside();
    let (frames, _, closed) = sorted(session.event(&RoomEvent::Removed { reason: LeaveReason::TooSlow }));
    assert_eq!((frames, closed), (vec![json!({ "type": "removed", "reason": "too-slow" })], Some(1000)));
    let mut session = inside();
    let (frames, _, closed) = sorted(session.event(&RoomEvent::RoomClosed { reason: CloseReason::Empty }));
    assert_eq!((frames, closed), (vec![json!({ "type": "room-closed", "reason": "empty" })], Some(1000)));
}

#[test]
fn errors_without_an_id_are_told_without_one() {
    let mut session = inside();
    let (_, mut actions, _) = sorted(session.text(r#"{"type":"rename","name":""}"#));
    let error = Reply::Changed(Err(ChangeError::Name(NameError::Empty)));
    let (frames, ..) = sorted(session.reply(actions.remove(0).0, error));
    let message = "that nickname cannot be used: it is empty";
    assert_eq!(frames, [json!({ "type": "error", "code": "bad_name", "field": "name", "message": message })]);
}

#[test]
fn events_look_as_documented() {
    let mut session = inside();
    let participant: ParticipantId = "p_1".parse().unwrap();
    let track: TrackId = "t_1".parse().unwrap();
    let level = SpeakingLevel { participant: participant.clone(), level_db: -30, speaking: true };
    for (event, expected) in [
        (
            RoomEvent::Speaking { levels: vec![level] },
            json!({ "type": "speaking", "levels": [{ "participant": "p_1", "level_db": -30, "speaking": true }] }),
        ),
        (
            RoomEvent::TrackUnpublished { participant: participant.clone(), track: track.clone() },
            json!({ "type": "track-unpublished", "participant": "p_1", "track": "t_1" }),
        ),
        (
            RoomEvent::ConnectionClosed { connection: connection("c"), reason: "failed".into() },
            json!({ "type": "connection-closed", "connection": "c", "reason": "failed" }),
        ),
        (
            RoomEvent::Candidate {
                connection: connection("c"),
                candidate: IceCandidate { candidate: "candidate:1".into(), mid: Some("0".into()), line: Some(0) },
            },
            json!({ "type": "candidate", "connection": "c",
                    "candidate": { "candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 0 } }),
        ),
        (
            RoomEvent::TrackPublished {
                participant,
                track: salon::room::model::TrackView {
                    id: track,
                    connection: connection("cam"),
                    kind: Kind::Video,
                    source: Source::Camera,
                    codec: CodecName::H264,
                    muted: false,
                    effects: Vec::new(),
                    layers: vec!["h".into(), "f".into()],
                },
            },
            json!({ "type": "track-published", "participant": "p_1", "track": { "id": "t_1", "connection": "cam",
                    "kind": "video", "source": "camera", "codec": "H264", "muted": false, "layers": ["h", "f"] } }),
        ),
    ] {
        assert_eq!(sorted(session.event(&event)).0, [expected]);
    }
}

/// The page lists the codes that the source gives, and no other.
#[test]
fn every_code_is_documented_and_every_documented_code_exists() {
    let source = include_str!("../../src/dialect/native/error.rs");
    let code = |text: &str| text.contains('_') && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let field = ["max_participants", "linger_s", "max_s"];
    let given: BTreeSet<_> = source.split('"').skip(1).step_by(2).filter(|text| code(text)).collect();
    let page = include_str!("../../docs/protocol/native.md");
    let listed = page.split("## Error codes").nth(1).expect("the section");
    let listed: BTreeSet<_> = listed.split('`').skip(1).step_by(2).filter(|text| code(text)).collect();
    assert_eq!(given.difference(&listed).filter(|text| !field.contains(text)).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert_eq!(listed.difference(&given).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(given.len() > 40);
}

proptest! {
    #[test]
    fn no_text_breaks_the_session(text in ".{0,200}") {
        let mut session = inside();
        session.text(&text);
    }

    #[test]
    fn no_field_of_any_verb_breaks_the_session(
        verb in proptest::sample::select(vec!["create", "join", "publish", "unpublish", "subscribe", "unsubscribe",
            "answer", "candidate", "mute", "rename", "signal", "record", "remove", "leave"]),
        field in proptest::sample::select(vec!["room", "name", "connection", "sdp", "tracks", "all", "participant",
            "candidate", "track", "muted", "kind", "data", "to", "action", "recording", "resume", "pin"]),
        value in proptest::sample::select(vec![json!(null), json!(1), json!(-1e300), json!(""), json!([[]]),
            json!({"a": {}}), json!([{"mid": 1}]), json!(true), json!("\u{0}\u{202E}")]),
    ) {
        let mut frame = json!({ "id": 1, "type": verb });
        frame[field] = value;
        let (frames, actions, closed) = sorted(inside().text(&frame.to_string()));
        // Each verb gets one answer, or becomes one action.
        prop_assert_eq!((frames.len() + actions.len(), closed), (1, None));
    }
}
