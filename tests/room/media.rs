//! Publications, subscriptions and what the engine tells of them.

use std::{sync::Arc, time::Duration};

use salon::{
    effect::Picture,
    media::{
        AudioLevel, CodecName, IceCandidate, IceCredentials, Kind, LayerChoice, LayoutChoice, LayoutError, LayoutKind,
        LayoutSpec, MediaError, MediaEvent, RecordingSpec, Scene, description,
        fake::{Call, made_up_offer},
        layout::{Corner, Logo},
        negotiation::NegotiationError,
    },
    recording::RecordingNotice,
    room::{
        command::Caller,
        error::{ChangeError, ConnectionError, PicturesError, PublishError, RecordError, SubscribeError},
        event::RoomEvent,
        id::{ConnectionName, TrackId},
        model::{RoomSettings, Source, Subscribe, Unsubscribe},
        policy::RoomPolicy,
    },
};
use tokio::time::{Instant, advance};

use super::harness::{Guest, House, answer, house, house_with, name, offer};

fn candidate(text: &str) -> IceCandidate {
    IceCandidate { candidate: text.into(), mid: Some("0".into()), line: Some(0) }
}

fn good_candidate() -> IceCandidate {
    candidate("candidate:1 1 udp 2122260223 192.0.2.1 54400 typ host")
}

async fn send_candidate(guest: &Guest, connection: &ConnectionName) -> Result<(), ConnectionError> {
    guest.room.candidate(guest.id.clone(), connection.clone(), good_candidate()).await
}

async fn published_track(guest: &mut Guest) -> TrackId {
    guest
        .find(|event| match event {
            RoomEvent::TrackPublished { track, .. } => Some(track.id),
            _ => None,
        })
        .await
}

async fn scene(house: &mut House) -> Scene {
    house
        .calls
        .find(|call| match call {
            Call::SetScene(scene) => Some(scene),
            _ => None,
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn a_publication_is_answered_and_announced_to_all() {
    let house = house();
    let mut a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    let sources = vec![("1".into(), None, true), ("0".into(), Some(Source::Other), false)];
    let published = a.room.publish(a.id.clone(), name("cam"), offer(), sources).await.unwrap();
    let tracks: Vec<_> =
        published.tracks.iter().map(|t| (&*t.mid, t.track.kind, t.track.source, t.track.muted)).collect();
    assert_eq!(tracks, [("0", Kind::Audio, Source::Other, false), ("1", Kind::Video, Source::Camera, true)]);
    for guest in [&mut a, &mut b] {
        for published in &published.tracks {
            assert_eq!(published_track(guest).await, published.track.id);
        }
    }
    let view = b.room.view().await.unwrap();
    assert_eq!(view.participants[0].tracks.len(), 2);
    assert_eq!(view.participants[0].tracks[0].connection, name("cam"));
}

#[tokio::test(start_paused = true)]
async fn publications_are_refused_each_for_its_own_reason() {
    let house = house_with(RoomPolicy { max_publications: 2, ..RoomPolicy::default() });
    let a = house.guest("r", "a").await;
    let viewer = house.viewer("r", "v").await;
    assert_eq!(viewer.try_publish("cam", &offer()).await, Err(PublishError::NotAllowed));
    let refused = a.try_publish("cam", "hello").await;
    assert!(matches!(refused, Err(PublishError::Offer(NegotiationError::NotSdp(_)))), "{refused:?}");
    let refused = a.try_publish("cam", &"v=0\r\n".repeat(20_000)).await;
    assert!(matches!(refused, Err(PublishError::Offer(NegotiationError::TooLarge(_)))), "{refused:?}");
    let foreign = offer().replace("VP8", "H263").replace("OPUS", "G729");
    let refused = a.try_publish("cam", &foreign).await;
    assert!(matches!(refused, Err(PublishError::Offer(NegotiationError::NoCommonCodec { .. }))), "{refused:?}");
    a.publish("cam").await;
    assert_eq!(a.try_publish("cam", &offer()).await, Err(PublishError::ConnectionExists));
    a.publish("more").await;
    assert_eq!(a.try_publish("third", &offer()).await, Err(PublishError::TooMany { most: 2 }));
    assert_eq!(a.room.view().await.unwrap().participants[0].tracks.len(), 4, "the room plays on");
}

#[tokio::test(start_paused = true)]
async fn a_room_takes_the_codecs_it_names_and_all_of_kinds_it_does_not() {
    let house = house();
    let settings = RoomSettings { codecs: Some(vec![CodecName::H264]), ..RoomSettings::default() };
    house.registry.create("r", settings).unwrap();
    let a = house.guest("r", "a").await;
    let refused = a.try_publish("cam", &offer()).await;
    assert!(matches!(refused, Err(PublishError::Offer(NegotiationError::NoCommonCodec { .. }))), "{refused:?}");
    let h264 = made_up_offer(&[("0", Kind::Audio, CodecName::Opus), ("1", Kind::Video, CodecName::H264)]);
    assert_eq!(a.try_publish("cam", &h264).await.unwrap().tracks.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_refuses_or_fails_ends_only_that_publication() {
    let mut house = house();
    house.engine.set_silent(true);
    let mut a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    let pending = a.room.publish(a.id.clone(), name("cam"), offer(), Vec::new());
    let connection = house.published().await;
    let error = MediaError::Description("no".into());
    house.engine.tell("r", MediaEvent::ConnectionEnded { connection, error: error.clone() }).await;
    assert_eq!(pending.await, Err(PublishError::Media(error)));

    house.engine.set_silent(false);
    a.publish("cam").await;
    let connection = house.published().await;
    let error = MediaError::ConnectTimeout(Duration::from_secs(20));
    house.engine.tell("r", MediaEvent::ConnectionEnded { connection, error }).await;
    assert_eq!(a.closed_connection().await, (name("cam"), "timeout".into()));
    b.find(|event| matches!(event, RoomEvent::TrackUnpublished { .. }).then_some(())).await;
    a.publish("cam").await;
}

#[tokio::test(start_paused = true)]
async fn a_late_event_of_an_ended_connection_does_not_hit_its_namesake() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    a.publish("cam").await;
    let old = house.published().await;
    a.room.close_connection(a.id.clone(), name("cam")).await.unwrap();
    a.publish("cam").await;
    assert_ne!(house.published().await, old);
    house.engine.tell("r", MediaEvent::ConnectionEnded { connection: old, error: MediaError::ConnectionLost }).await;
    tokio::task::yield_now().await;
    assert_eq!(a.room.view().await.unwrap().participants[0].tracks.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn all_follows_present_and_future_publications() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let mut viewer = house.viewer("r", "v").await;
    a.publish("cam").await;
    let now = viewer.subscribe_all().await;
    assert_eq!(now.len(), 1);
    assert_eq!(viewer.take_offer().await, now[0]);
    assert_eq!(house.subscribed().await.1.len(), 2);
    let screen = a.publish_screen("screen").await;
    let event = viewer.find(|event| matches!(event, RoomEvent::Offer { .. }).then_some(event)).await;
    let RoomEvent::Offer { participant, tracks, .. } = event else { unreachable!() };
    assert_eq!((participant, tracks.len()), (Some(a.id.clone()), 1));
    assert_eq!((tracks[0].id.clone(), tracks[0].source), (screen.tracks[0].track.id.clone(), Source::Screen));
    let c = house.guest("r", "c").await;
    c.publish("cam").await;
    viewer.take_offer().await;
}

#[tokio::test(start_paused = true)]
async fn the_mix_is_offered_without_the_listeners_own_sound() {
    let mut house = house();
    let mut a = house.guest("r", "a").await;
    let mut viewer = house.viewer("r", "v").await;
    let asked = async |house: &mut House| {
        let find = house.calls.find(|call| match call {
            Call::SubscribeToMix(connection, tracks, without) => Some((connection, tracks, without)),
            _ => None,
        });
        find.await
    };
    let connections = viewer.room.subscribe(viewer.id.clone(), Subscribe::Mix).await.unwrap();
    let (connection, mix, without) = asked(&mut house).await;
    assert_eq!((&connections[0], without.as_slice()), (&connection.name, [].as_slice()));
    let event = viewer.find(|event| matches!(event, RoomEvent::Offer { .. }).then_some(event)).await;
    let RoomEvent::Offer { participant, mix: is_mix, tracks, .. } = event else { unreachable!() };
    assert_eq!((participant, is_mix), (None, true));
    let kinds: Vec<_> = tracks.iter().map(|track| (track.id.clone(), track.kind)).collect();
    assert_eq!(kinds, [(mix.video.clone(), Kind::Video), (mix.audio, Kind::Audio)]);

    // Who publishes sound does not hear himself, whichever comes first.
    let first = a.publish("cam").await;
    let sound = first.tracks.iter().find(|one| one.track.kind == Kind::Audio).unwrap().track.id.clone();
    a.room.subscribe(a.id.clone(), Subscribe::Mix).await.unwrap();
    let (of_a, own, without) = asked(&mut house).await;
    assert_eq!((own.video, without), (mix.video, vec![sound]), "one picture for all");
    a.take_offer().await;
    a.room.close_connection(a.id.clone(), name("cam")).await.unwrap();
    let changed = async |house: &mut House| {
        let find = house.calls.find(|call| match call {
            Call::SetMixWithout(connection, without) => Some((connection, without.len())),
            _ => None,
        });
        find.await
    };
    assert_eq!(changed(&mut house).await, (of_a.clone(), 0));
    a.publish("cam").await;
    assert_eq!(changed(&mut house).await, (of_a.clone(), 1));

    // A second subscription takes the place of the first.
    a.room.subscribe(a.id.clone(), Subscribe::Mix).await.unwrap();
    assert_eq!(a.closed_connection().await, (of_a.name, "replaced".to_owned()));
    a.room.unsubscribe(a.id.clone(), Unsubscribe::Mix).await.unwrap();
    assert_eq!(a.closed_connection().await.1, "unsubscribed");
    let watching = a.room.unsubscribe(viewer.id.clone(), Unsubscribe::Participant(a.id.clone())).await;
    assert_eq!(watching, Ok(()), "the mix is nobody's in particular");
    assert!(viewer.told().await.iter().all(|event| !matches!(event, RoomEvent::ConnectionClosed { .. })));
}

#[tokio::test(start_paused = true)]
async fn one_participant_is_followed_and_named_tracks_are_watched_once() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let b = house.guest("r", "b").await;
    let mut follower = house.viewer("r", "follower").await;
    let mut picky = house.viewer("r", "picky").await;
    assert_eq!(follower.subscribe_to(&a).await, []);
    let published = a.publish("cam").await;
    assert_eq!(house.subscribed().await.0.participant, follower.id);
    let video = published.tracks[1].track.id.clone();
    let to = Subscribe::Participant {
        participant: a.id.clone(),
        tracks: Some(vec![video.clone(), video.clone()]),
        effects: true,
    };
    picky.room.subscribe(picky.id.clone(), to).await.unwrap();
    assert_eq!(house.subscribed().await.1, [video]);
    b.publish("cam").await;
    a.publish_screen("screen").await;
    follower.take_offer().await;
    follower.take_offer().await;
    picky.take_offer().await;
    let offers = |events: Vec<RoomEvent>| events.iter().filter(|e| matches!(e, RoomEvent::Offer { .. })).count();
    assert_eq!((offers(follower.told().await), offers(picky.told().await)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_refused_each_for_its_own_reason() {
    let house = house_with(RoomPolicy { max_subscriptions: 1, ..RoomPolicy::default() });
    let a = house.guest("r", "a").await;
    let b = house.guest("r", "b").await;
    let track = a.publish("cam").await.tracks[0].track.id.clone();
    let watch = |whom: &Guest, tracks: Option<Vec<TrackId>>| {
        b.room.subscribe(b.id.clone(), Subscribe::Participant { participant: whom.id.clone(), tracks, effects: true })
    };
    assert_eq!(watch(&b, None).await, Err(SubscribeError::Oneself));
    let own = b.publish("cam").await.tracks[1].track.id.clone();
    assert!(watch(&b, Some(vec![own])).await.is_ok(), "a single track, to see oneself as others do");
    b.room.unsubscribe(b.id.clone(), Unsubscribe::All).await.unwrap();
    a.room.close_connection(a.id.clone(), name("cam")).await.unwrap();
    assert_eq!(watch(&a, Some(vec![track])).await, Err(SubscribeError::NoSuchTrack));
    a.publish("cam").await;
    a.publish_screen("screen").await;
    assert_eq!(watch(&a, None).await, Err(SubscribeError::TooMany { most: 1 }));
    a.leave().await;
    assert_eq!(watch(&a, None).await, Err(SubscribeError::NoSuchParticipant));
    b.leave().await;
    assert_eq!(b.room.subscribe(b.id.clone(), Subscribe::All).await, Err(SubscribeError::NotInRoom));
}

#[tokio::test(start_paused = true)]
async fn subscribing_again_replaces_the_connection() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    a.publish("cam").await;
    let first = b.subscribe_all().await;
    b.take_offer().await;
    let second = b.subscribe_to(&a).await;
    assert_eq!(b.closed_connection().await, (first[0].clone(), "replaced".into()));
    assert_eq!(b.take_offer().await, second[0]);
    let closed = house.calls.find(|call| match call {
        Call::Close(connection) => Some(connection.name),
        _ => None,
    });
    assert_eq!(closed.await, first[0]);
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_ends_what_is_there_and_what_would_come() {
    let house = house();
    let a = house.guest("r", "a").await;
    let c = house.guest("r", "c").await;
    let mut b = house.guest("r", "b").await;
    a.publish("cam").await;
    b.subscribe_all().await;
    b.take_offer().await;
    b.room.unsubscribe(b.id.clone(), Unsubscribe::Participant(a.id.clone())).await.unwrap();
    assert_eq!(b.closed_connection().await.1, "unsubscribed");
    a.publish_screen("screen").await;
    c.publish("cam").await;
    let event = b.find(|event| matches!(event, RoomEvent::Offer { .. }).then_some(event)).await;
    assert!(
        matches!(event, RoomEvent::Offer { participant, .. } if participant == Some(c.id.clone())),
        "a is watched no more, c is"
    );
    b.room.unsubscribe(b.id.clone(), Unsubscribe::All).await.unwrap();
    c.publish_screen("screen").await;
    assert!(!b.told().await.iter().any(|event| matches!(event, RoomEvent::Offer { .. })));
}

#[tokio::test(start_paused = true)]
async fn viewers_are_told_why_a_connection_ended() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    b.subscribe_all().await;
    a.publish("cam").await;
    let connection = b.take_offer().await;
    a.room.close_connection(a.id.clone(), name("cam")).await.unwrap();
    assert_eq!(b.closed_connection().await, (connection, "unpublished".into()));
    a.publish("cam").await;
    b.take_offer().await;
    a.leave().await;
    assert_eq!(b.closed_connection().await.1, "left");

    let c = house.guest("r", "c").await;
    c.publish("cam").await;
    house.calls.made();
    let name = b.take_offer().await;
    let connection = salon::room::id::ConnectionId { participant: b.id.clone(), name: name.clone() };
    let error = MediaError::ConnectionLost;
    house.engine.tell("r", MediaEvent::ConnectionEnded { connection, error }).await;
    assert_eq!(b.closed_connection().await, (name.clone(), "failed".into()));
    let late = b.room.answered(b.id.clone(), name, answer()).await;
    assert_eq!(late, Err(ConnectionError::Unknown));
    assert_eq!(b.subscribe_all().await.len(), 1, "and may be watched again");
}

#[tokio::test(start_paused = true)]
async fn answers_and_candidates_are_checked_against_their_connection() {
    let mut house = house_with(RoomPolicy { max_candidates: 3, ..RoomPolicy::default() });
    let a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    let (room, id) = (b.room.clone(), b.id.clone());
    let answered = |connection: ConnectionName, sdp: &str| room.answered(id.clone(), connection, sdp.into());
    assert_eq!(answered(name("none"), &answer()).await, Err(ConnectionError::Unknown));
    assert_eq!(send_candidate(&b, &name("none")).await, Err(ConnectionError::CandidateBeforeOffer));
    b.publish("cam").await;
    assert_eq!(answered(name("cam"), &answer()).await, Err(ConnectionError::UnexpectedAnswer));
    send_candidate(&b, &name("cam")).await.unwrap();
    let bad = b.room.candidate(b.id.clone(), name("cam"), candidate("candidate:x")).await;
    assert!(matches!(bad, Err(ConnectionError::Sdp(NegotiationError::NotACandidate(_)))), "{bad:?}");
    b.room.candidate(b.id.clone(), name("cam"), candidate("")).await.unwrap();
    b.room.close_connection(b.id.clone(), name("cam")).await.unwrap();
    assert_eq!(send_candidate(&b, &name("cam")).await, Err(ConnectionError::Unknown), "it was, and ended");

    a.publish("cam").await;
    house.engine.set_silent(true);
    let connection = b.subscribe_all().await.remove(0);
    let early = send_candidate(&b, &connection).await;
    assert_eq!(early, Err(ConnectionError::CandidateBeforeOffer), "the name is known, the offer is not");
    assert_eq!(answered(connection.clone(), &answer()).await, Err(ConnectionError::UnexpectedAnswer));
    let (media, tracks) = house.subscribed().await;
    let tracks = tracks.into_iter().enumerate().map(|(mid, track)| (mid.to_string(), track)).collect();
    house.engine.tell("r", MediaEvent::Offered { connection: media, sdp: offer(), tracks }).await;
    b.offer().await;
    let bad = answered(connection.clone(), "no").await;
    assert!(matches!(bad, Err(ConnectionError::Sdp(NegotiationError::NotSdp(_)))), "{bad:?}");
    answered(connection.clone(), &answer()).await.unwrap();
    let twice = answered(connection.clone(), &answer()).await;
    assert_eq!(twice, Err(ConnectionError::UnexpectedAnswer));
    for _ in 0..3 {
        send_candidate(&b, &connection).await.unwrap();
    }
    assert_eq!(send_candidate(&b, &connection).await, Err(ConnectionError::TooManyCandidates { most: 3 }));
}

#[tokio::test(start_paused = true)]
async fn our_candidates_wait_for_their_description() {
    let mut house = house();
    house.engine.set_silent(true);
    let mut a = house.guest("r", "a").await;
    let pending = a.room.publish(a.id.clone(), name("cam"), offer(), Vec::new());
    let media = house.published().await;
    let early = MediaEvent::Candidate { connection: media.clone(), candidate: good_candidate() };
    house.engine.tell("r", early).await;
    house.engine.tell("r", MediaEvent::Answered { connection: media, sdp: answer() }).await;
    pending.await.unwrap();
    let event = a.event().await;
    assert_eq!(event, RoomEvent::Candidate { connection: name("cam"), candidate: good_candidate() });
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_gets_the_offers_and_ends_he_missed() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    b.subscribe_all().await;
    a.publish("cam").await;
    let answered = b.take_offer().await;
    let (first, _) = house.subscribed().await;
    b.detach().await;
    a.publish_screen("screen").await;
    let (second, _) = house.subscribed().await;
    house.engine.tell("r", MediaEvent::Candidate { connection: second.clone(), candidate: good_candidate() }).await;
    a.room.close_connection(a.id.clone(), name("cam")).await.unwrap();
    tokio::task::yield_now().await;
    b.resume(&house, "r").await.unwrap();
    assert_eq!(first.name, answered);
    assert_eq!(b.closed_connection().await, (answered, "unpublished".into()));
    assert_eq!(b.offer().await, second.name);
    let event = b.event().await;
    assert_eq!(event, RoomEvent::Candidate { connection: second.name.clone(), candidate: good_candidate() });
    b.room.answered(b.id.clone(), second.name, answer()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_mutes_ones_own_and_a_moderator_mutes_but_does_not_unmute_others() {
    let house = house();
    let mut host = house.guest("r", "host").await;
    let b = house.guest("r", "b").await;
    let own = host.publish("cam").await.tracks[0].track.id.clone();
    let track = b.publish("cam").await.tracks[0].track.id.clone();
    let mute =
        |who: &Guest, track: &TrackId, muted| who.room.mute(Caller::Participant(who.id.clone()), track.clone(), muted);
    assert_eq!(mute(&b, &own, true).await, Err(ChangeError::NotAllowed));
    assert_eq!(mute(&b, &TrackId::random(), true).await, Err(ChangeError::NoSuchTrack));
    host.told().await;
    mute(&host, &track, true).await.unwrap();
    mute(&host, &track, true).await.unwrap();
    let told = host.told().await;
    assert!(matches!(&told[..], [RoomEvent::TrackUpdated { track, .. }] if track.muted), "told once: {told:?}");
    assert_eq!(mute(&host, &track, false).await, Err(ChangeError::NotAllowed));
    mute(&b, &track, false).await.unwrap();
    host.room.mute(Caller::Owner, track, true).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_scene_follows_who_publishes_and_mutes_and_leaves() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let b = house.guest("r", "b").await;
    let a_tracks = a.publish("cam").await.tracks;
    let shown = scene(&mut house).await;
    assert_eq!(
        shown.tiles.iter().map(|t| (&*t.label, t.video.clone())).collect::<Vec<_>>(),
        [("a", Some(a_tracks[1].track.id.clone()))]
    );
    assert_eq!(shown.audio, [a_tracks[0].track.id.clone()]);
    b.publish_screen("screen").await;
    assert_eq!(scene(&mut house).await.tiles.iter().map(|t| &*t.label).collect::<Vec<_>>(), ["b", "a"]);
    a.room.mute(Caller::Participant(a.id.clone()), a_tracks[1].track.id.clone(), true).await.unwrap();
    assert_eq!(scene(&mut house).await.tiles[1].video, None);
    a.room.rename(a.id.clone(), "김철수".into()).await.unwrap();
    assert_eq!(scene(&mut house).await.tiles[1].label, "김철수");
    b.leave().await;
    assert_eq!(scene(&mut house).await.tiles.len(), 1);
    a.room.signal(a.id.clone(), "chat".into(), None, serde_json::json!(1)).await.unwrap();
    assert_eq!(house.calls.made().iter().filter(|call| matches!(call, Call::SetScene(_))).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn speech_is_told_and_ends_by_the_clock_or_by_muting() {
    let house = house();
    let mut a = house.guest("r", "a").await;
    let track = a.publish("cam").await.tracks[0].track.id.clone();
    let level = |peak_db| MediaEvent::AudioLevels(vec![(track.clone(), AudioLevel { peak_db, voice: true })]);
    async fn speaking(guest: &mut Guest) -> bool {
        guest
            .find(|event| match event {
                RoomEvent::Speaking { levels } => Some(levels[0].speaking),
                _ => None,
            })
            .await
    }
    let start = Instant::now();
    house.engine.tell("r", level(-30)).await;
    a.done().await;
    advance(Duration::from_millis(200)).await;
    house.engine.tell("r", level(-30)).await;
    assert!(speaking(&mut a).await);
    assert!(!speaking(&mut a).await);
    assert_eq!(start.elapsed(), Duration::from_millis(800));

    advance(Duration::from_secs(1)).await;
    for _ in 0..2 {
        house.engine.tell("r", level(-30)).await;
        tokio::task::yield_now().await;
        advance(Duration::from_millis(200)).await;
    }
    assert!(speaking(&mut a).await);
    a.room.mute(Caller::Participant(a.id.clone()), track.clone(), true).await.unwrap();
    let muted = Instant::now();
    assert!(!speaking(&mut a).await);
    assert!(muted.elapsed() <= Duration::from_millis(200), "at once, or with the next report");
    house.engine.tell("r", level(-10)).await;
    tokio::task::yield_now().await;
    advance(Duration::from_millis(300)).await;
    house.engine.tell("r", level(-10)).await;
    tokio::task::yield_now().await;
    assert!(!a.told().await.iter().any(|event| matches!(event, RoomEvent::Speaking { .. })), "muted is not heard");
}

#[tokio::test(start_paused = true)]
async fn the_graph_carries_nicknames() {
    let house = house();
    let a = house.guest("r", "김철수").await;
    let mut b = house.guest("r", "영희").await;
    a.publish("cam").await;
    b.subscribe_all().await;
    b.take_offer().await;
    let graph = a.room.graph().await.unwrap();
    let mut labels: Vec<_> = graph.nodes.iter().map(|node| node.label.as_str()).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["김철수 · cam", "김철수 · camera", "김철수 · microphone", "영희 ← 김철수"]);
}

#[tokio::test(start_paused = true)]
async fn leaving_frees_everything_the_engine_held() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    b.subscribe_all().await;
    a.publish("cam").await;
    b.take_offer().await;
    b.publish("cam").await;
    a.subscribe_all().await;
    a.done().await;
    let (mut opened, mut closed) = (Vec::new(), Vec::new());
    a.leave().await;
    b.leave().await;
    for call in house.calls.made() {
        match call {
            Call::Publish(connection, _) | Call::Subscribe(connection, ..) => opened.push(connection),
            Call::Close(connection) => closed.push(connection),
            _ => {}
        }
    }
    opened.sort();
    closed.sort();
    assert_eq!(opened.len(), 4);
    assert_eq!(opened, closed);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_connections_in_a_loop_is_slowed_down() {
    let house = house_with(RoomPolicy { max_subscriptions: 8, max_publications: 2, ..RoomPolicy::default() });
    let (a, b) = (house.guest("r", "a").await, house.guest("r", "b").await);
    a.publish("cam").await;
    let subscribe = || b.room.subscribe(b.id.clone(), Subscribe::All);
    for _ in 0..20 {
        assert_eq!(subscribe().await.map(|connections| connections.len()), Ok(1));
    }
    assert_eq!(subscribe().await, Err(SubscribeError::TooFast));
    assert_eq!(b.try_publish("cam", &offer()).await, Err(PublishError::TooFast));
    advance(Duration::from_secs(1)).await;
    assert!(subscribe().await.is_ok());
    assert!(b.try_publish("cam", &offer()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn names_and_mutes_count_as_messages_but_a_moderator_always_mutes() {
    let house = house();
    let (moderator, b) = (house.guest("r", "a").await, house.guest("r", "b").await);
    let track = b.publish("cam").await.tracks[0].track.id.clone();
    let own = |muted| b.room.mute(Caller::Participant(b.id.clone()), track.clone(), muted);
    for turn in 0..15 {
        own(turn % 2 == 0).await.unwrap();
        b.room.rename(b.id.clone(), format!("b{turn}")).await.unwrap();
    }
    assert_eq!(own(false).await, Err(ChangeError::TooFast));
    assert_eq!(b.room.rename(b.id.clone(), "c".into()).await, Err(ChangeError::TooFast));
    advance(Duration::from_millis(100)).await;
    own(false).await.unwrap();
    let muted = moderator.room.mute(Caller::Participant(moderator.id.clone()), track.clone(), true).await;
    assert_eq!(muted, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_moderator_lays_out_the_mix_and_everybody_is_told() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    let pip = LayoutSpec { pinned: Some(b.id.clone()), ..LayoutSpec::of(LayoutKind::Pip) };
    let set = |who: &Guest, layout| who.room.set_layout(Caller::Participant(who.id.clone()), layout);
    assert_eq!(set(&b, pip.clone()).await, Err(ChangeError::NotAllowed));
    let bad = LayoutSpec::of(LayoutKind::Custom);
    assert!(matches!(set(&a, bad).await, Err(ChangeError::Layout(LayoutError { field: "regions", .. }))));
    assert_eq!(set(&a, pip.clone()).await, Ok(pip.clone()));
    let told = b.find(|event| match event {
        RoomEvent::Layout { layout } => Some(layout),
        _ => None,
    });
    assert_eq!(told.await, pip);
    assert_eq!(scene(&mut house).await.layout, pip);
    assert_eq!(house.guest("r", "late").await.joined.room.layout, pip, "who comes later knows it too");
}

#[tokio::test(start_paused = true)]
async fn a_logo_is_a_picture_of_the_room_which_stays_while_a_layout_shows_it() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let picture = Arc::new(Picture::plain([0, 255, 0, 255]));
    let id = picture.id.clone();
    let layout = LayoutSpec {
        logo: Some(Logo { picture: id.clone(), corner: Corner::BottomLeft, size: 0.1, opacity: 1.0 }),
        ..Default::default()
    };
    let recording =
        || RecordingSpec { layout: Some(LayoutChoice::Spec(Box::new(layout.clone()))), ..RecordingSpec::default() };
    let (set, me) = (|layout| a.room.set_layout(Caller::Owner, layout), Caller::Participant(a.id.clone()));
    assert!(matches!(set(layout.clone()).await, Err(ChangeError::Layout(LayoutError { field: "logo", .. }))));
    let refused = a.room.record(me.clone(), recording()).await;
    assert!(matches!(refused, Err(RecordError::Layout(LayoutError { field: "logo", .. }))), "{refused:?}");

    a.room.add_picture(me.clone(), picture.clone()).await.unwrap();
    set(layout.clone()).await.unwrap();
    let shown = house.calls.find(|call| match call {
        Call::SetScene(scene) if scene.layout.logo.is_some() => Some(scene),
        _ => None,
    });
    assert_eq!(shown.await.pictures, [picture]);
    let remove = || a.room.remove_picture(Caller::Owner, id.clone());
    assert_eq!(remove().await, Err(PicturesError::InUse), "the room's layout shows it");
    let pending = a.room.record(me, recording());
    let begun = house.note_recording().await;
    pending.await.unwrap();
    set(LayoutSpec::default()).await.unwrap();
    assert_eq!(remove().await, Err(PicturesError::InUse), "a recording shows it");
    a.room.stop_recording(Caller::Owner, begun).await.unwrap();
    while !matches!(house.notice().await, Some(RecordingNotice::Ended { .. })) {}
    assert_eq!(remove().await, Ok(()));
}

#[tokio::test]
async fn a_subscription_that_looks_for_other_paths_is_offered_again() {
    let house = house();
    let (a, mut b) = (house.guest("r", "a").await, house.guest("r", "b").await);
    a.publish("cam").await;
    b.subscribe_all().await;
    let own = a.room.restart(a.id.clone(), name("cam")).await;
    assert_eq!(own, Err(ConnectionError::NoRestart), "of what he publishes the offer is his");
    assert_eq!(b.room.restart(b.id.clone(), name("none")).await, Err(ConnectionError::Unknown));
    let connection = b.offer().await;
    let early = b.room.restart(b.id.clone(), connection.clone()).await;
    assert_eq!(early, Err(ConnectionError::NoRestart), "it was not answered yet");
    b.room.answered(b.id.clone(), connection.clone(), answer()).await.unwrap();
    for _ in 0..2 {
        b.room.restart(b.id.clone(), connection.clone()).await.unwrap();
        assert_eq!(b.take_offer().await, connection, "the same one");
    }
}

#[tokio::test]
async fn a_publication_that_looks_for_other_paths_stays_what_it_is() {
    let house = house();
    let (a, mut b) = (house.guest("r", "a").await, house.guest("r", "b").await);
    a.publish("cam").await;
    b.subscribe_all().await;
    let watched = b.take_offer().await;
    let restart = |who: &Guest, connection: &ConnectionName| {
        let theirs = IceCredentials::new("anew", "anewanewanewanewanewanew").unwrap();
        who.room.restart_published(who.id.clone(), connection.clone(), theirs)
    };
    let before = a.room.view().await.unwrap().participants;
    for _ in 0..2 {
        let restarted = restart(&a, &name("cam")).await.unwrap();
        let answer = restarted.sdp.unwrap();
        assert_eq!(description::credentials(&answer), Some(restarted.ours));
        assert_eq!(description::mids(&answer), description::mids(&offer()));
    }
    assert_eq!(a.room.view().await.unwrap().participants, before);
    assert_eq!(restart(&a, &name("none")).await, Err(ConnectionError::Unknown));
    assert_eq!(restart(&b, &watched).await, Err(ConnectionError::Unknown), "the offer of it was ours");

    house.engine.set_silent(true);
    let waits = restart(&a, &name("cam"));
    assert_eq!(restart(&a, &name("cam")).await, Err(ConnectionError::NoRestart), "one at a time");
    a.room.close_connection(a.id.clone(), name("cam")).await.unwrap();
    assert_eq!(waits.await, Err(ConnectionError::Unknown));
}

#[tokio::test]
async fn who_watches_a_track_in_layers_may_have_another_one() {
    let mut house = house();
    let (a, mut b, c) = (house.guest("r", "a").await, house.guest("r", "b").await, house.guest("r", "c").await);
    let layers = "a=extmap:8 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
                  a=extmap:9 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=rid:h send\r\na=rid:f send\r\n\
                  a=simulcast:send h;f\r\n";
    let published = a.try_publish("cam", &(offer() + layers)).await.unwrap();
    let [audio, video] = [&published.tracks[0].track, &published.tracks[1].track];
    assert_eq!((audio.layers.len(), &video.layers[..]), (0, &["h".to_owned(), "f".to_owned()][..]));
    b.subscribe_all().await;
    b.take_offer().await;
    let named = |rid: &str| LayerChoice::Named(rid.into());
    let layer = |who: &Guest, track: &TrackId, choice| who.room.layer(who.id.clone(), track.clone(), choice);
    assert_eq!(layer(&b, &video.id, named("h")).await, Ok(()));
    let asked = house.calls.made().into_iter().find_map(|call| match call {
        Call::SetLayer(connection, track, choice) => Some((connection.participant, track, choice)),
        _ => None,
    });
    assert_eq!(asked, Some((b.id.clone(), video.id.clone(), named("h"))));
    assert_eq!(layer(&b, &video.id, named("q")).await, Err(ChangeError::NoSuchLayer));
    assert_eq!(layer(&b, &audio.id, named("h")).await, Err(ChangeError::NoSuchLayer));
    assert_eq!(layer(&b, &TrackId::random(), LayerChoice::Largest).await, Err(ChangeError::NoSuchTrack));
    assert_eq!(layer(&c, &video.id, LayerChoice::Largest).await, Err(ChangeError::NoSuchTrack), "he watches nothing");
}
