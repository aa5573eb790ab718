//! Sessions over WHIP (RFC 9725) and WHEP: one request each.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, bail};
use reqwest::{
    Client, StatusCode, Url,
    header::{CONTENT_TYPE, LOCATION, RETRY_AFTER},
};

use crate::session::{self, Offering, Session};

/// A refusal for haste is asked again so often.
const ATTEMPTS: usize = 20;

/// A server that speaks both.
#[derive(Clone, Debug)]
pub struct Server {
    client: Client,
    base: Url,
    token: Option<String>,
    media: IpAddr,
}

/// A session, and where it is ended.
#[derive(Debug)]
pub struct Opened {
    /// The PeerConnection.
    pub session: Session,
    resource: Url,
}

impl Server {
    /// `base`: as `http://127.0.0.1:8080`; `token`: what is shown as a bearer's; `trusting`: any certificate is taken.
    ///
    /// # Errors
    ///
    /// The address is none, or its name is not known.
    pub async fn new(base: &str, token: Option<String>, trusting: bool) -> Result<Self> {
        let base = Url::parse(base).with_context(|| format!("{base} is no address"))?;
        let media = resolve(&base).await?;
        let client =
            Client::builder().timeout(Duration::from_secs(30)).danger_accept_invalid_certs(trusting).build()?;
        Ok(Self { client, base, token, media })
    }

    /// Publishes the clip into a room.
    ///
    /// # Errors
    ///
    /// What the server refused, and why.
    pub async fn publish(&self, room: &str) -> Result<Opened> {
        let (offering, offer) = session::offer_to_send(self.media).await?;
        self.open(&["whip", room], offering, offer).await
    }

    /// Watches what a room's first publisher sends, or its mix.
    ///
    /// # Errors
    ///
    /// What the server refused, and why.
    pub async fn watch(&self, room: &str, mix: bool) -> Result<Opened> {
        let (offering, offer) = session::offer_to_watch(self.media).await?;
        let path = if mix { &["whep", room, "mix"][..] } else { &["whep", room] };
        self.open(path, offering, offer).await
    }

    async fn open(&self, path: &[&str], offering: Offering, offer: String) -> Result<Opened> {
        let mut url = self.base.clone();
        url.path_segments_mut().ok().context("the server's address takes no path")?.pop_if_empty().extend(path);
        for _ in 0..ATTEMPTS {
            let mut request = self.client.post(url.clone()).header(CONTENT_TYPE, "application/sdp").body(offer.clone());
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.with_context(|| format!("{url} does not answer"))?;
            match response.status() {
                StatusCode::CREATED => {
                    let location = response.headers().get(LOCATION).context("the server names no session")?;
                    let resource = url.join(location.to_str()?)?;
                    let session = offering.answered(&response.text().await?)?;
                    return Ok(Opened { session, resource });
                }
                // In haste, or nobody is live yet.
                StatusCode::TOO_MANY_REQUESTS | StatusCode::CONFLICT => {
                    let wait = response.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
                    tokio::time::sleep(Duration::from_secs_f64(wait.unwrap_or(0.5))).await;
                }
                status => bail!("{url} answers {status}: {}", response.text().await.unwrap_or_default()),
            }
        }
        bail!("{url} has refused {ATTEMPTS} times, for haste or because nobody publishes there")
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// The server does not answer, or knows no such session.
    pub async fn close(&self, opened: Opened) -> Result<()> {
        let mut request = self.client.delete(opened.resource);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request.send().await?.error_for_status()?;
        Ok(())
    }
}

/// Where the host of an address is.
///
/// # Errors
///
/// It names no host, or one that nobody knows.
pub async fn resolve(url: &Url) -> Result<IpAddr> {
    let host = url.host_str().context("the address names no host")?.trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(443);
    let found = tokio::net::lookup_host((host, port)).await.with_context(|| format!("{host} is not known"))?;
    // IPv4 first: a server that has both has media there, too.
    let first = found.map(|address| address.ip()).min_by_key(IpAddr::is_ipv6);
    first.with_context(|| format!("{host} has no address"))
}
