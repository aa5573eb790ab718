//! JSON over a WebSocket, asked and answered.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

/// A server that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Wire {
    /// `protocol`: the subprotocol, if the server wants one.
    pub(crate) async fn connect(url: &str, protocol: Option<&'static str>) -> Result<Self> {
        let mut request = url.into_client_request().with_context(|| format!("{url} is no address"))?;
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
        }
        let (socket, _) = connect_async(request).await.with_context(|| format!("{url} does not answer"))?;
        Ok(Self(socket))
    }

    pub(crate) async fn send(&mut self, value: &Value) -> Result<()> {
        Ok(self.0.send(Message::text(value.to_string())).await?)
    }

    /// The next message; an end of the connection is an error.
    pub(crate) async fn next(&mut self) -> Result<Value> {
        while let Some(message) = self.0.next().await {
            if let Message::Text(text) = message? {
                return Ok(serde_json::from_str(&text)?);
            }
        }
        bail!("the server has closed the connection")
    }

    /// Reads until a message is the one; others go to `aside`.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        is_it: impl Fn(&Value) -> bool,
        mut aside: impl FnMut(Value),
    ) -> Result<Value> {
        let wait = async {
            loop {
                let message = self.next().await?;
                if is_it(&message) {
                    return Ok(message);
                }
                aside(message);
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.with_context(|| format!("the server did not answer {what}"))?
    }
}
