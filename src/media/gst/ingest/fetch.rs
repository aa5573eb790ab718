//! One connection to a source that is no RTSP: opened, played at its own pace, and watched.

use std::{pin::pin, time::Duration};

use gst::prelude::*;
use tokio::{
    sync::mpsc,
    time::{Instant, interval, timeout},
};

use super::{
    line::{EMPTY_LIMIT, Failure, LOOK, Line, OPEN_LIMIT, SHUTDOWN_DEADLINE, left_out},
    stream::{Found, Origin, StreamInput},
};
use crate::{
    ingest::{
        DialError, Scheme,
        http::Web,
        rtsp::{RtspError, Source},
    },
    media::{Kind, MediaError, gst::PipelineEvent},
};

/// After one stream was found, others are waited for so long.
const MORE_LIMIT: Duration = Duration::from_secs(2);
/// Seconds without a packet after which an element gives up.
const IDLE_S: u32 = 6;

impl Line {
    /// From its opening to its end; `None`: the room wants no more, or nobody needs it now.
    pub(super) async fn fetch(&mut self, opened: &mut bool) -> Option<Failure> {
        let stop = self.stop.clone();
        let opening = timeout(OPEN_LIMIT, origin(&self.ingest.source));
        let (origin, web) = match stop.run_until_cancelled(opening).await? {
            Ok(Ok(origin)) => origin,
            Ok(Err(error)) => return Some(error.into()),
            Err(_) => return Some(RtspError::Timeout { method: "anything", limit: OPEN_LIMIT }.into()),
        };
        if let Err(error) = self.ready(None).await {
            return Some(error.into());
        }
        let mut input = match self.build_stream(origin).await {
            Ok(input) => input,
            Err(error) => return Some(error.into()),
        };
        let (_, none) = mpsc::channel(1);
        let mut events = std::mem::replace(&mut input.events, none);
        let failure = tokio::select! {
            failure = self.play_stream(&input, &mut events, web, opened) => Some(failure),
            () = self.unneeded() => None,
        };
        // A deadline that passes is logged there.
        let _ = input.pipeline.shutdown(SHUTDOWN_DEADLINE).await;
        failure
    }

    async fn build_stream(&self, origin: Origin) -> Result<StreamInput, MediaError> {
        let (context, outputs) = (self.context.clone(), self.outputs.clone());
        let lead = self.ingest.latency;
        let building = move || StreamInput::build(&context, &origin, &outputs, lead);
        let gone = |_| MediaError::Unavailable("the runtime is going down".into());
        let input = tokio::task::spawn_blocking(building).await.map_err(gone)??;
        input.pipeline.start().await?;
        Ok(input)
    }

    async fn play_stream(
        &self,
        input: &StreamInput,
        events: &mut mpsc::Receiver<PipelineEvent>,
        web: Option<Web>,
        opened: &mut bool,
    ) -> Failure {
        let mut feeding = pin!(feed(web, input));
        let mut found = input.found.clone();
        let began = self.context.clock.running_time();
        let mut first_found = None;
        let mut look = interval(LOOK);
        let mut is_live = false;
        loop {
            tokio::select! {
                error = &mut feeding => return error.into(),
                Ok(()) = found.changed() => {
                    first_found.get_or_insert_with(Instant::now);
                    let now = found.borrow_and_update().clone();
                    self.note_streams(&now.streams, None, left_out(&now.unknown)).await;
                    self.open_if_known(&now, first_found, opened).await;
                }
                Some(event) = events.recv() => match event {
                    PipelineEvent::Failed(error) => return error.into(),
                    // A file begins again, and is heard without a gap.
                    PipelineEvent::Ended if self.is_file() && input.rewind() => {}
                    PipelineEvent::Ended => return RtspError::Closed.into(),
                },
                _ = look.tick() => {
                    let now = found.borrow().clone();
                    self.open_if_known(&now, first_found, opened).await;
                    let heard = self.outputs.iter().filter_map(|output| output.heard()).max();
                    let silent = self.context.clock.running_time().saturating_sub(heard.unwrap_or(began));
                    if Duration::from(silent) > EMPTY_LIMIT {
                        return RtspError::Stalled(EMPTY_LIMIT).into();
                    }
                    if heard.is_some() && !std::mem::replace(&mut is_live, true) {
                        self.tell_live().await;
                    }
                }
            }
        }
    }

    fn is_file(&self) -> bool {
        self.ingest.source.uri.scheme == Scheme::File
    }

    /// Tells the room which tracks there are once all that were asked for are found, or no more come.
    async fn open_if_known(&self, found: &Found, first: Option<Instant>, opened: &mut bool) {
        let kinds: Vec<Kind> = found.streams.iter().map(|(kind, _)| *kind).collect();
        let has_all = self.outputs.iter().all(|output| kinds.contains(&output.track.kind()));
        let is_known = has_all || found.complete || first.is_some_and(|first| first.elapsed() > MORE_LIMIT);
        if !kinds.is_empty() && is_known && !std::mem::replace(opened, true) {
            self.tell_opened(&kinds).await;
        }
    }
}

/// Until the bytes break off.
async fn feed(web: Option<Web>, input: &StreamInput) -> RtspError {
    let Some(mut web) = web else { return std::future::pending().await };
    loop {
        match web.next().await {
            Ok(Some(bytes)) => input.push(bytes).await,
            // What waits is played to its end, which the pipeline tells.
            Ok(None) => {
                input.end();
                return std::future::pending().await;
            }
            Err(error) => return error,
        }
    }
}

/// Where a source's bytes come from: HTTP is ours, elements are told an address that was checked.
async fn origin(source: &Source) -> Result<(Origin, Option<Web>), RtspError> {
    let uri = &source.uri;
    let address = async || {
        let found = source.allow.resolve(&uri.host, uri.port).await?;
        found.first().copied().ok_or_else(|| DialError::Unresolved { host: uri.host.to_string() })
    };
    let element = |factory: &'static str, strings: Vec<(&'static str, String)>| Origin::Element { factory, strings };
    Ok(match uri.scheme {
        Scheme::Http | Scheme::Https => {
            let web = Web::open(source).await?;
            let parts = web.kind().starts_with("multipart/");
            let caps = parts.then(|| gst::Caps::new_empty_simple("multipart/x-mixed-replace"));
            (Origin::Bytes(caps), Some(web))
        }
        Scheme::Srt => {
            let uri = format!("srt://{}?{}", address().await?, srt_query(uri.target()));
            (element("srtsrc", vec![("uri", uri)]), None)
        }
        Scheme::Rtmp => {
            let mut strings = vec![("location", format!("rtmp://{}{}", address().await?, uri.target()))];
            if let Some(credentials) = &source.credentials {
                strings.push(("username", credentials.user.reveal().to_owned()));
                strings.push(("password", credentials.password.reveal().to_owned()));
            }
            (element("rtmp2src", strings), None)
        }
        Scheme::File => {
            let path = source.allow.file(uri.target())?;
            (element("filesrc", vec![("location", path.to_string_lossy().into_owned())]), None)
        }
        Scheme::Rtmps => return Err(RtspError::Protocol("rtmps is pushed to, and not fetched".into())),
        Scheme::Rtsp | Scheme::Rtsps => return Err(RtspError::Protocol("it is RTSP".into())),
    })
}

/// We call; the rest of what stands in the address is the stream's name, its password and its latency.
pub(in super::super) fn srt_query(target: &str) -> String {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let known = ["streamid", "passphrase", "pbkeylen", "latency"];
    let is_known = |pair: &&str| pair.split_once('=').is_some_and(|(name, _)| known.contains(&name));
    ["mode=caller"].into_iter().chain(query.split('&').filter(is_known)).collect::<Vec<_>>().join("&")
}

/// What elements that fetch by themselves are told beside an address: to give up, so that the line tries again
/// and says so.
pub(super) fn restrain(element: &gst::Element) {
    for name in ["auto-reconnect", "wait-for-connection"] {
        if element.has_property(name) {
            element.set_property(name, false);
        }
    }
    if element.has_property("idle-timeout") {
        element.set_property("idle-timeout", IDLE_S);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srt_is_called_whatever_the_address_says() {
        let query = srt_query("/?mode=listener&streamid=a%20b&localport=22&passphrase=x&bind");
        assert_eq!(query, "mode=caller&streamid=a%20b&passphrase=x");
        assert_eq!(srt_query("/"), "mode=caller");
    }
}
