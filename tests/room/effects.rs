//! Effects: who may put them where, what they may cost, and what the engine is told.

use std::collections::BTreeMap;

use salon::{
    effect::{Applied, EffectError, EffectRequest, Value},
    media::{EffectReport, MediaError, MediaEvent, RecordingSpec, fake::Call},
    recording::RecordingNotice,
    room::{
        command::Caller,
        error::{ChangeError, PreviewError, SubscribeError},
        event::RoomEvent,
        handle::Pending,
        id::{ConnectionName, TrackId},
        model::{EffectsOf, Role, Subscribe},
        policy::RoomPolicy,
    },
};

use super::harness::{Guest, House, house, house_with};

fn request(name: &str) -> EffectRequest {
    EffectRequest { name: name.into(), ..Default::default() }
}

fn applied(name: &str) -> Applied {
    Applied { name: name.into(), params: BTreeMap::from([("amount".to_owned(), Value::Number(0.5))]) }
}

async fn put(by: &Guest, on: &Guest, names: &[&str]) -> Result<Vec<Applied>, ChangeError> {
    let chain = names.iter().map(|name| request(name)).collect();
    let caller = Caller::Participant(by.id.clone());
    by.room.set_effects(caller, EffectsOf::Participant(on.id.clone()), chain).await
}

async fn put_on_mix(by: &Guest, names: &[&str]) -> Result<Vec<Applied>, ChangeError> {
    let chain = names.iter().map(|name| request(name)).collect();
    by.room.set_effects(Caller::Participant(by.id.clone()), EffectsOf::Mix, chain).await
}

/// What the engine was told of effects so far.
fn told(house: &mut House) -> Vec<(TrackId, Vec<String>)> {
    let names = |chain: Vec<Applied>| chain.into_iter().map(|applied| applied.name).collect();
    let effects = house.calls.made().into_iter().filter_map(|call| match call {
        Call::SetEffects(track, chain) => Some((track, names(chain))),
        _ => None,
    });
    effects.collect()
}

#[tokio::test(start_paused = true)]
async fn effects_go_on_camera_and_microphone_by_their_kind_and_on_what_is_published_later() {
    let mut house = house();
    let (a, mut b) = (house.guest("r", "a").await, house.guest("r", "b").await);
    let first = b.publish("cam").await;
    b.publish_screen("screen").await;
    told(&mut house);
    assert_eq!(put(&a, &b, &["blur", "echo"]).await, Ok(vec![applied("blur"), applied("echo")]));
    let (sound, picture) = (first.tracks[0].track.id.clone(), first.tracks[1].track.id.clone());
    let expected = [(sound, vec!["echo".to_owned()]), (picture, vec!["blur".to_owned()])];
    assert_eq!(told(&mut house), expected, "and nothing on the screen");
    let updated = b.find(|event| match event {
        RoomEvent::ParticipantUpdated { participant } if !participant.effects.is_empty() => Some(participant),
        _ => None,
    });
    assert_eq!(updated.await.effects, [applied("blur"), applied("echo")]);
    // The same again is nothing new.
    put(&a, &b, &["blur", "echo"]).await.unwrap();
    assert_eq!(told(&mut house), []);
    let second = b.publish("other").await;
    let tracks: Vec<_> = told(&mut house).into_iter().map(|(track, _)| track).collect();
    assert!(second.tracks.iter().all(|published| tracks.contains(&published.track.id)), "{tracks:?}");
    put(&a, &b, &[]).await.unwrap();
    assert!(told(&mut house).iter().all(|(_, chain)| chain.is_empty()));
    assert_eq!(b.room.view().await.unwrap().participants[1].effects, []);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_has_his_own_effects_and_a_moderator_everybodys() {
    let house = house();
    let (moderator, publisher) = (house.guest("r", "a").await, house.guest("r", "b").await);
    let viewer = house.viewer("r", "c").await;
    assert!(put(&publisher, &publisher, &["blur"]).await.is_ok());
    assert!(put(&moderator, &publisher, &["blur"]).await.is_ok());
    assert!(put_on_mix(&moderator, &["blur"]).await.is_ok());
    assert_eq!(put(&publisher, &moderator, &["blur"]).await, Err(ChangeError::NotAllowed));
    assert_eq!(put_on_mix(&publisher, &["blur"]).await, Err(ChangeError::NotAllowed));
    assert_eq!(put(&viewer, &viewer, &["blur"]).await, Err(ChangeError::NotAllowed));
    viewer.leave().await;
    assert_eq!(put(&moderator, &viewer, &["blur"]).await, Err(ChangeError::NoSuchParticipant));
    assert_eq!(put(&viewer, &moderator, &["blur"]).await, Err(ChangeError::NotInRoom));
    let unknown = put(&moderator, &publisher, &["filesrc"]).await;
    assert_eq!(unknown, Err(EffectError::Unknown("filesrc".into()).into()));
}

#[tokio::test(start_paused = true)]
async fn a_room_keeps_to_its_budget_and_taking_effects_off_always_goes() {
    // Those of the made-up engine cost ten points each.
    let house = house_with(RoomPolicy { max_effect_points: 20, ..RoomPolicy::default() });
    let (a, b) = (house.guest("r", "a").await, house.guest("r", "b").await);
    put(&a, &a, &["blur"]).await.unwrap();
    put_on_mix(&a, &["blur"]).await.unwrap();
    let over = Err(EffectError::OverBudget { would: 30, most: 20 }.into());
    assert_eq!(put(&b, &b, &["blur"]).await, over);
    assert_eq!(put(&a, &a, &["blur", "echo"]).await, over);
    put(&a, &a, &["echo"]).await.expect("one for another costs no more");
    put_on_mix(&a, &[]).await.unwrap();
    put(&b, &b, &["blur"]).await.expect("there is room again");
    b.leave().await;
    put(&a, &a, &["blur", "echo"]).await.expect("who left has taken his with him");
}

#[tokio::test(start_paused = true)]
async fn effects_on_the_mix_are_part_of_its_scene_and_told_to_all() {
    let mut house = house();
    let (a, mut b) = (house.guest("r", "a").await, house.guest("r", "b").await);
    put_on_mix(&a, &["blur"]).await.unwrap();
    let effects = house.calls.find(|call| match call {
        Call::SetScene(scene) if !scene.effects.is_empty() => Some(scene.effects),
        _ => None,
    });
    assert_eq!(effects.await, [applied("blur")]);
    let told = b.find(|event| match event {
        RoomEvent::Effects { effects } => Some(effects),
        _ => None,
    });
    assert_eq!(told.await, [applied("blur")]);
    assert_eq!(b.room.view().await.unwrap().effects, [applied("blur")]);
    assert_eq!(put_on_mix(&a, &["blur", "echo"]).await, Ok(vec![applied("blur"), applied("echo")]), "sound, too");
}

#[tokio::test(start_paused = true)]
async fn effects_that_fail_are_taken_off_and_told() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    let published = a.publish("cam").await;
    put(&a, &a, &["blur", "echo"]).await.unwrap();
    told(&mut house);
    let error = MediaError::Element { element: "effects".into(), message: "it broke".into() };
    let track = published.tracks[1].track.id.clone();
    let failed =
        |name| MediaEvent::EffectsFailed { track: track.clone(), chain: vec![applied(name)], error: error.clone() };
    assert!(house.engine.tell("r", failed("echo")).await);
    assert_eq!(put(&a, &a, &["blur"]).await, Ok(vec![applied("blur")]));
    assert_eq!(b.room.view().await.unwrap().participants[0].effects, [applied("blur")], "what failed is no more there");
    told(&mut house);
    assert!(house.engine.tell("r", failed("blur")).await);
    let reason = b.find(|event| match event {
        RoomEvent::EffectsFailed { participant: Some(participant), reason } if participant == a.id => Some(reason),
        _ => None,
    });
    assert!(reason.await.contains("it broke"));
    assert_eq!(b.room.view().await.unwrap().participants[0].effects, []);
    assert!(told(&mut house).iter().all(|(_, chain)| chain.is_empty()), "nor are they left on another track");
}

#[tokio::test(start_paused = true)]
async fn effects_that_fail_on_the_mix_are_taken_off_and_told_unless_others_stand_by_then() {
    let mut house = house();
    let (a, mut b) = (house.guest("r", "a").await, house.guest("r", "b").await);
    put_on_mix(&a, &["blur"]).await.unwrap();
    let error = MediaError::Element { element: "effects".into(), message: "it broke".into() };
    let failed = |chain| MediaEvent::MixEffectsFailed { chain, error: error.clone() };
    assert!(house.engine.tell("r", failed(vec![applied("blur"), applied("blur")])).await);
    assert_eq!(b.room.view().await.unwrap().effects, [applied("blur")], "what failed does not stand");
    house.calls.made();
    assert!(house.engine.tell("r", failed(vec![applied("blur")])).await);
    let reason = b.find(|event| match event {
        RoomEvent::EffectsFailed { participant: None, reason } => Some(reason),
        _ => None,
    });
    assert!(reason.await.contains("it broke"));
    let told = b.find(|event| match event {
        RoomEvent::Effects { effects } => Some(effects),
        _ => None,
    });
    assert_eq!(told.await, []);
    assert_eq!(b.room.view().await.unwrap().effects, []);
    let scene = house.calls.find(|call| match call {
        Call::SetScene(scene) => Some(scene.effects),
        _ => None,
    });
    assert_eq!(scene.await, [], "nor is the engine to put them on again");
}

#[tokio::test(start_paused = true)]
async fn what_effects_find_is_told_to_everybody_with_whose_track_it_was() {
    let house = house();
    let a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    let track = a.publish("cam").await.tracks[1].track.id.clone();
    let report = EffectReport::Barcode { format: "QR-Code".into(), text: "https://example.org/?a=<b>".into() };
    house.engine.tell("r", MediaEvent::EffectReported { track: Some(TrackId::random()), report: report.clone() }).await;
    house.engine.tell("r", MediaEvent::EffectReported { track: Some(track.clone()), report }).await;
    let told = b.find(|event| match event {
        RoomEvent::Barcode { participant, track, format, text } => Some((participant, track, format, text)),
        _ => None,
    });
    let text = "https://example.org/?a=<b>".to_owned();
    let expected = (Some(a.id.clone()), Some(track), "QR-Code".to_owned(), text);
    assert_eq!(told.await, expected, "and a track that nobody has is nobody's");
}

#[tokio::test(start_paused = true)]
async fn what_effects_find_on_the_mix_is_told_as_nobodys_while_it_has_effects() {
    let house = house();
    let a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    let own = a.publish("cam").await.tracks[1].track.id.clone();
    let found = |text: &str| {
        let report = EffectReport::Barcode { format: "QR-Code".into(), text: text.into() };
        MediaEvent::EffectReported { track: None, report }
    };
    house.engine.tell("r", found("early")).await;
    let report = EffectReport::Motion { moving: true, amount: 0.5 };
    house.engine.tell("r", MediaEvent::EffectReported { track: Some(own), report }).await;
    b.find(|event| matches!(event, RoomEvent::Motion { .. }).then_some(())).await;
    put_on_mix(&a, &["blur"]).await.unwrap();
    house.engine.tell("r", found("in time")).await;
    let told = b.find(|event| matches!(event, RoomEvent::Barcode { .. }).then_some(event)).await;
    let json = serde_json::json!({"type": "barcode", "format": "QR-Code", "text": "in time"});
    assert_eq!(serde_json::to_value(told).unwrap(), json, "neither `participant` nor `track`");
}

async fn put_on_track(by: &Guest, track: &TrackId, names: &[&str]) -> Result<Vec<Applied>, ChangeError> {
    let chain = names.iter().map(|name| request(name)).collect();
    by.room.set_effects(Caller::Participant(by.id.clone()), EffectsOf::Track(track.clone()), chain).await
}

#[tokio::test(start_paused = true)]
async fn a_track_may_have_effects_of_its_own_a_shared_screen_too() {
    let mut house = house();
    let (a, mut b) = (house.guest("r", "a").await, house.guest("r", "b").await);
    let camera = b.publish("cam").await.tracks[1].track.id.clone();
    let screen = b.publish_screen("screen").await.tracks[0].track.id.clone();
    told(&mut house);
    put_on_track(&b, &screen, &["blur"]).await.unwrap();
    assert_eq!(told(&mut house), [(screen.clone(), vec!["blur".to_owned()])]);
    let updated = b.find(|event| match event {
        RoomEvent::TrackUpdated { track, .. } if track.id == screen => Some(track.effects),
        _ => None,
    });
    assert_eq!(updated.await, [applied("blur")]);
    // The camera's own stand in the place of its owner's, until they are taken off.
    put(&b, &b, &["blur"]).await.unwrap();
    told(&mut house);
    put_on_track(&a, &camera, &["blur", "blur"]).await.unwrap();
    put_on_track(&a, &camera, &[]).await.unwrap();
    let [twice, once] = [2, 1].map(|count| (camera.clone(), vec!["blur".to_owned(); count]));
    assert_eq!(told(&mut house), [twice, once]);
    // What is put on somebody is on all but his screens, whatever they had.
    put_on_track(&a, &camera, &["blur", "blur"]).await.unwrap();
    put(&b, &b, &["blur", "echo"]).await.unwrap();
    let tracks = b.room.view().await.unwrap().participants[1].tracks.clone();
    let own: Vec<_> = tracks.iter().filter(|track| !track.effects.is_empty()).map(|track| &track.id).collect();
    assert_eq!(own, [&screen]);
    let other = EffectError::OtherKind { effect: "echo".into(), kind: salon::media::Kind::Video };
    assert_eq!(put_on_track(&a, &screen, &["echo"]).await, Err(other.into()));
    assert_eq!(put_on_track(&b, &a.publish("cam").await.tracks[1].track.id, &[]).await, Err(ChangeError::NotAllowed));
    assert_eq!(put_on_track(&a, &TrackId::random(), &[]).await, Err(ChangeError::NoSuchTrack));
}

#[tokio::test(start_paused = true)]
async fn a_tracks_own_effects_count_and_are_taken_off_alone_when_they_fail() {
    let mut house = house_with(RoomPolicy { max_effect_points: 20, ..RoomPolicy::default() });
    let mut a = house.guest("r", "a").await;
    let screen = a.publish_screen("screen").await.tracks[0].track.id.clone();
    put(&a, &a, &["blur"]).await.unwrap();
    put_on_track(&a, &screen, &["blur"]).await.unwrap();
    let over = Err(EffectError::OverBudget { would: 30, most: 20 }.into());
    assert_eq!(put(&a, &a, &["blur", "blur"]).await, over);
    assert_eq!(put_on_track(&a, &screen, &["blur", "blur"]).await, over);
    told(&mut house);
    let error = MediaError::Element { element: "effects".into(), message: "it broke".into() };
    let failed = MediaEvent::EffectsFailed { track: screen.clone(), chain: vec![applied("blur")], error };
    assert!(house.engine.tell("r", failed).await);
    a.find(|event| matches!(event, RoomEvent::EffectsFailed { .. }).then_some(())).await;
    let updated = a.find(|event| match event {
        RoomEvent::TrackUpdated { track, .. } if track.id == screen => Some(track.effects),
        _ => None,
    });
    assert_eq!(updated.await, []);
    let me = a.room.view().await.unwrap().participants[0].clone();
    assert_eq!((me.effects, &me.tracks[0].effects), (vec![applied("blur")], &vec![]));
}

#[tokio::test(start_paused = true)]
async fn who_may_put_an_effect_on_a_track_may_preview_it_and_not_too_fast() {
    let mut house = house();
    let (a, b) = (house.guest("r", "a").await, house.guest("r", "b").await);
    let viewer = house.viewer("r", "c").await;
    let tracks = b.publish("cam").await.tracks;
    let (sound, picture) = (tracks[0].track.id.clone(), tracks[1].track.id.clone());
    let preview = |by: &Guest, track: &TrackId, effect: &str| {
        by.room.preview(Caller::Participant(by.id.clone()), track.clone(), effect.into())
    };
    told(&mut house);
    for by in [&a, &b] {
        let made = preview(by, &picture, "blur").await.unwrap();
        assert_eq!(made.await.unwrap().unwrap(), &b"a picture"[..]);
    }
    let asked = house.calls.made();
    assert_eq!(asked, vec![Call::Preview(picture.clone(), vec![applied("blur")]); 2]);
    assert_eq!(preview(&viewer, &picture, "blur").await.unwrap_err(), PreviewError::NotAllowed);
    assert_eq!(preview(&a, &sound, "echo").await.unwrap_err(), PreviewError::NoPicture);
    assert_eq!(preview(&a, &TrackId::random(), "blur").await.unwrap_err(), PreviewError::NoSuchTrack);
    let other_kind = preview(&a, &picture, "echo").await.unwrap_err();
    assert!(matches!(other_kind, PreviewError::Effects(EffectError::OtherKind { .. })), "{other_kind}");
    let unknown = preview(&a, &picture, "nothing").await.unwrap_err();
    assert!(matches!(unknown, PreviewError::Effects(EffectError::Unknown(_))), "{unknown}");
    for _ in 0..8 {
        drop(preview(&a, &picture, "blur").await.unwrap());
    }
    assert_eq!(preview(&a, &picture, "blur").await.unwrap_err(), PreviewError::TooFast, "ten a second");
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    drop(preview(&a, &picture, "blur").await.unwrap());
    b.room.mute(Caller::Participant(b.id.clone()), picture.clone(), true).await.unwrap();
    assert_eq!(preview(&b, &picture, "blur").await.unwrap_err(), PreviewError::NoPicture, "it is switched off");
}

#[tokio::test(start_paused = true)]
async fn a_chain_counts_for_each_track_that_it_runs_on() {
    let house = house_with(RoomPolicy { max_effect_points: 20, ..RoomPolicy::default() });
    let a = house.guest("r", "a").await;
    a.publish("cam").await;
    a.publish("other").await;
    put(&a, &a, &["blur"]).await.expect("two cameras");
    let over = |would| Err(EffectError::OverBudget { would, most: 20 }.into());
    assert_eq!(put(&a, &a, &["blur", "echo"]).await, over(40), "two microphones more");
    assert_eq!(put_on_mix(&a, &["blur"]).await, over(30));
}

#[tokio::test(start_paused = true)]
async fn effects_of_the_mix_count_for_each_mix_that_is_made() {
    let mut house = house_with(RoomPolicy { max_effect_points: 20, ..RoomPolicy::default() });
    let (a, viewer) = (house.guest("r", "a").await, house.viewer("r", "b").await);
    viewer.room.subscribe(viewer.id.clone(), Subscribe::Mix).await.unwrap();
    put_on_mix(&a, &["blur", "echo"]).await.expect("a picture and a sound, for the viewer alone");
    let record = async |house: &mut House, spec: RecordingSpec| {
        let pending = a.room.record(Caller::Participant(a.id.clone()), spec);
        house.note_recording().await;
        let id = pending.await.unwrap().id;
        assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
        id
    };
    let clean = RecordingSpec { effects: false, width: 640, height: 360, ..Default::default() };
    record(&mut house, clean).await;
    put_on_mix(&a, &["echo", "blur"]).await.expect("a recording without effects makes none of them dearer");
    let spec = RecordingSpec { video: false, ..Default::default() };
    let sound = record(&mut house, spec).await;
    let over = |would| Err(EffectError::OverBudget { would, most: 20 }.into());
    assert_eq!(put_on_mix(&a, &["blur", "echo"]).await, over(30), "the sound twice");
    put_on_mix(&a, &["echo"]).await.expect("two sounds");
    put_on_mix(&a, &["blur", "blur"]).await.expect("one picture");
    a.room.stop_recording(Caller::Owner, sound).await.unwrap();
    assert!(matches!(house.notice().await, Some(RecordingNotice::Ended { .. })));
    record(&mut house, RecordingSpec::default()).await;
    assert_eq!(put_on_mix(&a, &["blur", "blur"]).await, over(40), "two pictures");
    put_on_mix(&a, &[]).await.expect("taking them off always goes");
}

fn see(
    viewer: &Guest,
    whom: &Guest,
    tracks: Option<Vec<TrackId>>,
    effects: bool,
) -> Pending<Vec<ConnectionName>, SubscribeError> {
    viewer.room.subscribe(viewer.id.clone(), Subscribe::Participant { participant: whom.id.clone(), tracks, effects })
}

#[tokio::test(start_paused = true)]
async fn a_moderator_may_see_others_without_their_effects_and_everybody_himself() {
    let mut house = house();
    let (moderator, publisher) = (house.guest("r", "a").await, house.guest("r", "b").await);
    let viewer = house.viewer("r", "c").await;
    let published = publisher.publish("cam").await;
    let own = vec![published.tracks[1].track.id.clone()];
    assert_eq!(see(&viewer, &publisher, None, false).await, Err(SubscribeError::OnlyWithEffects));
    assert_eq!(see(&publisher, &moderator, None, false).await, Err(SubscribeError::OnlyWithEffects));
    assert!(see(&viewer, &publisher, None, true).await.is_ok());
    assert!(house.subscribed_with().await.2);
    assert!(see(&publisher, &publisher, Some(own), false).await.is_ok());
    assert!(!house.subscribed_with().await.2);
    assert!(see(&moderator, &publisher, None, false).await.is_ok());
    assert!(!house.subscribed_with().await.2);
    // So it is with what he publishes later, until the moderator wants it otherwise.
    viewer.leave().await;
    publisher.publish_screen("screen").await;
    assert!(!house.subscribed_with().await.2);
    assert!(see(&moderator, &publisher, None, true).await.is_ok());
    assert!(house.subscribed_with().await.2);
}

#[tokio::test(start_paused = true)]
async fn a_server_may_let_everybody_see_others_without_their_effects() {
    let mut house = house_with(RoomPolicy { clean_tracks_for: Role::Viewer, ..RoomPolicy::default() });
    let (a, viewer) = (house.guest("r", "a").await, house.viewer("r", "b").await);
    a.publish("cam").await;
    assert!(see(&viewer, &a, None, false).await.is_ok());
    assert!(!house.subscribed_with().await.2);
}
