//! TLS to a receiver, for elements that would dial and trust by themselves: they call this machine, and what they say
//! goes on to the address that was checked, under the certificate that was checked.

use std::{net::SocketAddr, time::Duration};

use tokio::{io::copy_bidirectional, net::TcpListener, task::JoinHandle, time::timeout};

use super::{AllowList, IngestUri, rtsp::RtspError, tls, tls::Fingerprint};

/// A way for one connection. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// Where it begins, on this machine.
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Tunnel {
    /// Dials `uri`'s host and shakes hands with it, each within `limit`; its certificate must be of that name, or the
    /// one of the fingerprint.
    ///
    /// # Errors
    /// As [`RtspError`] says.
    pub(crate) async fn open(
        allow: &AllowList,
        uri: &IngestUri,
        pinned: Option<Fingerprint>,
        limit: Duration,
    ) -> Result<Self, RtspError> {
        let stream = allow.connect(&uri.host, uri.port, limit).await?;
        let shaken = timeout(limit, tls::connect(stream, &uri.host, pinned)).await;
        let mut far = shaken.map_err(|_| RtspError::Tls(format!("no handshake within {} s", limit.as_secs())))??;
        let failed = |error: std::io::Error| RtspError::Tls(error.to_string());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(async move {
            let Ok(Ok((mut near, _))) = timeout(limit, listener.accept()).await else { return };
            // Nobody else is taken.
            drop(listener);
            // An end of either side is noticed by the element.
            let _ = copy_bidirectional(&mut near, &mut far).await;
        });
        Ok(Self { address, task })
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}
