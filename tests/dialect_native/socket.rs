//! The whole door over real sockets on loopback.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use salon::room::{Registry, policy::RoomPolicy};
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode};

use super::{
    client::{Client, House, PATIENCE, house, house_with, serve},
    scenario::{self, Client as _, Door},
    transcript::replay,
};

struct Served {
    house: House,
    address: SocketAddr,
}

async fn served(house: House) -> Served {
    let address = serve(&house).await;
    Served { house, address }
}

impl Door for Served {
    type Client = Client;

    fn registry(&self) -> &Arc<Registry> {
        &self.house.hub.registry
    }

    async fn connect(&self) -> Client {
        Client::over_socket(self.address).await
    }
}

async fn replay_over_sockets(text: &str) {
    let served = served(house()).await;
    replay(text, async || served.connect().await).await;
}

#[tokio::test]
async fn the_scenario_of_all_dialects() {
    scenario::join_publish_subscribe_mute_leave(&served(house()).await).await;
}

#[tokio::test]
async fn one_to_many() {
    replay_over_sockets(include_str!("../fixtures/native/one_to_many.txt")).await;
}

#[tokio::test]
async fn one_to_one_with_a_pin() {
    replay_over_sockets(include_str!("../fixtures/native/one_to_one_pin.txt")).await;
}

#[tokio::test]
async fn bad_input_has_its_own_code_each_and_the_room_plays_on() {
    replay_over_sockets(include_str!("../fixtures/native/bad_input.txt")).await;
}

#[tokio::test]
async fn coming_back() {
    replay_over_sockets(include_str!("../fixtures/native/coming_back.txt")).await;
}

#[tokio::test]
async fn a_killed_socket_frees_its_participant() {
    let window = Duration::from_millis(300);
    let served = served(house_with(RoomPolicy { resume_window: window, ..RoomPolicy::default() })).await;
    let (mut stays, mut killed) = (served.connect().await, served.connect().await);
    stays.join("r", "stays").await;
    killed.join("r", "killed").await;
    drop(killed);
    assert_eq!(stays.event("participant-left").await["reason"], "lost");
}

#[tokio::test]
async fn a_message_beyond_two_mebibytes_ends_its_socket_with_1009() {
    let served = served(house()).await;
    let mut neighbour = served.connect().await;
    neighbour.join("r", "neighbour").await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", served.address)).await.unwrap();
    // The server stops reading at the frame's header, so not all of it may go out.
    let _ = socket.send(Message::text("x".repeat(2 * 1024 * 1024 + 1))).await;
    let closed = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code),
                Some(Ok(_)) => {}
                Some(Err(error)) => panic!("no close frame, but {error}"),
                None => return None,
            }
        }
    };
    assert_eq!(timeout(PATIENCE, closed).await.unwrap(), Some(CloseCode::Size));
    neighbour.ask_ok(json!({ "type": "rename", "name": "unharmed" })).await;
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let served = served(house()).await;
    let connect = async |origin: String| {
        let mut request = format!("ws://{}/ws", served.address).into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        tokio_tungstenite::connect_async(request).await.map(drop)
    };
    connect(format!("http://{}", served.address)).await.unwrap();
    let Err(tungstenite::Error::Http(refused)) = connect("https://evil.example".into()).await else {
        panic!("a stranger's page was let in")
    };
    assert_eq!(refused.status(), 403);
}
