//! One scenario for every dialect: join, publish, subscribe, mute, leave. A dialect's test gives a
//! [`Door`]; what the room became is read from the room itself, in no dialect's words.

use std::{sync::Arc, time::Duration};

use salon::{
    media::Kind,
    room::{Registry, RoomHandle, model::ParticipantView},
};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// A way into rooms, as one dialect offers it.
pub trait Door {
    /// One client's connection.
    type Client: Client;

    /// The rooms behind the door.
    fn registry(&self) -> &Arc<Registry>;
    /// A new client.
    async fn connect(&self) -> Self::Client;
}

/// What any client of any dialect can do. Each returns when the server has said that it is done.
pub trait Client {
    /// Comes into the room.
    async fn join(&mut self, room: &str, name: &str);
    /// Publishes a microphone and a camera on one connection.
    async fn publish(&mut self);
    /// Asks for everybody's publications.
    async fn watch_everybody(&mut self);
    /// Takes the next offer and answers it; says how many tracks it brought.
    async fn answer_offer(&mut self) -> usize;
    /// Mutes his own track of that kind.
    async fn mute(&mut self, kind: Kind);
    /// Waits until he is told that somebody muted a track of that kind.
    async fn sees_muted(&mut self, kind: Kind);
    /// Goes.
    async fn leave(&mut self);
    /// Waits until he is told that somebody left.
    async fn sees_leave(&mut self);
}

/// The scenario.
pub async fn join_publish_subscribe_mute_leave(door: &impl Door) {
    let (mut host, mut viewer, mut late) = (door.connect().await, door.connect().await, door.connect().await);
    host.join("scenario", "김철수 & <b>").await;
    let room = door.registry().find("scenario").expect("the room appeared with its first guest");
    host.publish().await;
    viewer.join("scenario", "viewer").await;
    viewer.watch_everybody().await;
    assert_eq!(viewer.answer_offer().await, 2);

    late.join("scenario", "late").await;
    late.watch_everybody().await;
    assert_eq!(late.answer_offer().await, 2);
    late.publish().await;
    assert_eq!(viewer.answer_offer().await, 2, "what is published later is offered too");

    host.mute(Kind::Video).await;
    viewer.sees_muted(Kind::Video).await;
    let people = people(&room).await;
    assert_eq!(people.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["김철수 & <b>", "viewer", "late"]);
    assert_eq!(people[0].tracks.iter().map(|track| track.muted).collect::<Vec<_>>(), [false, true]);

    host.leave().await;
    viewer.sees_leave().await;
    late.leave().await;
    viewer.sees_leave().await;
    assert_eq!(self::people(&room).await.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["viewer"]);
}

async fn people(room: &RoomHandle) -> Vec<ParticipantView> {
    timeout(PATIENCE, room.view()).await.expect("the room answers").expect("the room stands").participants
}
