//! The edge as a room sees it: viewers come with the tracks they want, publishers with what they send, and go.

use std::{
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    demux::{Demux, PeerKey, Remote},
    downlink::Downlinks,
    inbox::{Inbox, Item},
    pace::Pace,
    peer::{Identity, Opening, Wants},
    publishing::{self, Publication},
    reception::Reception,
    sockets::Sockets,
    source::Source,
    worker::Worker,
};
use crate::{
    media::{IceCredentials, LayerChoice, MediaError, MediaEvent, graph::Stage, negotiation::AcceptedSection},
    room::id::{ConnectionId, TrackId},
};

/// Media threads at most; a room of thousands keeps more cores busy with sending than with anything else.
const MAX_WORKERS: usize = 8;

/// Where the edge listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeSettings {
    /// Addresses to bind; empty: every interface but loopback, or loopback if there is no other.
    pub bind: Vec<IpAddr>,
    /// The address to announce instead of the bound one (NAT, containers).
    pub announce: Option<IpAddr>,
    /// Ports to choose one from, both ends included; `None`: the system chooses.
    pub ports: Option<(u16, u16)>,
    /// Clients may come over TCP too, on the same port number.
    pub tcp: bool,
    /// ICE and DTLS of a viewer must be up by then.
    pub connect_timeout: Duration,
}

/// Media threads, the port they share, and who is on which. Ends with its last reference.
#[derive(Debug)]
pub struct Edge {
    workers: Vec<Worked>,
    sockets: Arc<Sockets>,
    demux: Arc<Demux>,
    identity: Identity,
    downlinks: Downlinks,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Worked {
    inbox: Arc<Inbox>,
    /// Viewers now; the next one goes where there are fewest.
    viewers: Arc<AtomicU64>,
}

impl Edge {
    /// Binds the port and starts the threads. Must be called on a tokio runtime if clients may come over TCP.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if there is no port, or no thread can be started.
    pub fn start(settings: &EdgeSettings) -> Result<Arc<Self>, MediaError> {
        let mut sockets = Sockets::bind(settings)?;
        let addresses: Vec<SocketAddr> = sockets.announced().collect();
        let tcp = sockets.has_tcp();
        let identity = Identity::new(&addresses, tcp, settings.connect_timeout)?;
        let demux = Arc::new(Demux::default());
        let stop = Arc::new(AtomicBool::new(false));
        let count = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_WORKERS));
        let inboxes: Vec<Arc<Inbox>> = (0..count).map(|_| Arc::default()).collect();
        let reception = Reception::new(demux.clone(), inboxes.clone());
        sockets.accept(&reception)?;
        let sockets = Arc::new(sockets);
        let mut edge = Self {
            workers: inboxes.iter().map(|inbox| Worked { inbox: inbox.clone(), viewers: Arc::default() }).collect(),
            sockets: sockets.clone(),
            demux: demux.clone(),
            identity: identity.clone(),
            downlinks: Downlinks::default(),
            stop: stop.clone(),
            threads: Vec::new(),
        };
        for (index, inbox) in inboxes.iter().enumerate() {
            let worker = Worker::new(inbox.clone(), demux.clone(), sockets.clone(), identity.clone());
            edge.threads.push(thread(&format!("fanout-{index}"), move || worker.run())?);
        }
        edge.threads.push(thread("fanout-receive", move || receive(&sockets, &reception, &stop))?);
        tracing::info!(?addresses, tcp, threads = count, "the fan-out edge is on one port");
        Ok(Arc::new(edge))
    }

    /// The addresses that viewers are told.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.announced()
    }

    /// How many sessions and how many addresses of clients it knows.
    pub fn known(&self) -> (usize, usize) {
        self.demux.len()
    }

    /// Offers tracks to a viewer. → [`MediaEvent::Offered`], [`MediaEvent::Connected`],
    /// [`MediaEvent::ConnectionEnded`]. Must be called on a tokio runtime.
    pub fn subscribe(
        &self,
        connection: ConnectionId,
        tracks: Vec<(TrackId, Arc<Source>)>,
        events: mpsc::Sender<MediaEvent>,
    ) -> Viewer {
        self.open(connection, Wants::Offer(tracks), events)
    }

    /// Answers a viewer's own offer; `media`: what goes into its sections, which
    /// [`accept_subscriber`](crate::media::negotiation::accept_subscriber) chose. → [`MediaEvent::Answered`], then
    /// as for [`subscribe`](Self::subscribe).
    pub fn answer(
        &self,
        connection: ConnectionId,
        offer: String,
        media: Vec<(AcceptedSection, Arc<Source>)>,
        events: mpsc::Sender<MediaEvent>,
    ) -> Viewer {
        self.open(connection, Wants::Answer { offer, media }, events)
    }

    /// Whether [`publish`](Self::publish) has an answer to that offer: str0m refuses some that others take.
    pub fn takes(&self, offer: &str, sections: &[AcceptedSection]) -> bool {
        // As the media threads do with what str0m does not bear.
        let checked = catch_unwind(AssertUnwindSafe(|| publishing::check(offer, sections, &self.identity)));
        match checked {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!("an offer is not for the fan-out edge: {error}");
                false
            }
            Err(_) => false,
        }
    }

    /// Answers a publisher's offer, and gives what he sends to its [`Downstream`](super::Downstream), until he is
    /// gone. → [`MediaEvent::Answered`], then as for [`subscribe`](Self::subscribe).
    pub fn publish(
        &self,
        connection: ConnectionId,
        publication: Publication,
        events: mpsc::Sender<MediaEvent>,
    ) -> Publisher {
        Publisher(self.open(connection, Wants::Publish(publication), events))
    }

    fn open(&self, connection: ConnectionId, wants: Wants, events: mpsc::Sender<MediaEvent>) -> Viewer {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let fewest = self.workers.iter().enumerate().min_by_key(|(_, worker)| worker.viewers.load(Relaxed));
        let (index, worker) = fewest.expect("an edge has a thread at least");
        worker.viewers.fetch_add(1, Relaxed);
        let key = PeerKey { worker: index, id: NEXT.fetch_add(1, Relaxed) };
        let (stage_sender, stage_told) = watch::channel(Stage::Negotiating);
        let (sender, told) = mpsc::unbounded_channel();
        let downlink = self.downlinks.of(&connection.participant);
        let (stage, opened) = (stage_sender, Instant::now());
        let opening = Opening { key, connection, wants, downlink, events: sender, stage, opened };
        worker.inbox.push(Item::Open(Box::new(opening)));
        let closed = CancellationToken::new();
        let failed_handshake = Arc::<AtomicBool>::default();
        let task = tokio::spawn(pass_on(told, events, closed.clone(), failed_handshake.clone()));
        let (inbox, viewers) = (worker.inbox.clone(), worker.viewers.clone());
        let closing = Closing { key, inbox, viewers, _closed: closed.drop_guard() };
        Viewer { closing, stage: stage_told, failed_handshake, task }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for worker in &self.workers {
            worker.inbox.push(Item::Stop);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a media thread had panicked");
            }
        }
    }
}

/// A room's end of a viewer. Dropping it lets him go.
#[derive(Debug)]
pub struct Viewer {
    closing: Closing,
    stage: watch::Receiver<Stage>,
    failed_handshake: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

/// The owner's end of a publisher. Dropping it lets him go.
#[derive(Debug)]
pub struct Publisher(Viewer);

impl Publisher {
    /// To ask him for keyframes.
    pub fn keyframes(&self) -> KeyframeRequests {
        KeyframeRequests { key: self.0.closing.key, inbox: self.0.closing.inbox.clone() }
    }

    /// He has new credentials, and looks for other paths on the same session. → [`MediaEvent::Restarted`].
    pub fn restart_ice(&self, theirs: IceCredentials) {
        self.0.restart_ice(Some(theirs));
    }

    /// Lets him go; the task ends when he is gone from the media thread, and his media goes nowhere any more.
    pub fn close(self) -> tokio::task::JoinHandle<()> {
        self.0.close()
    }
}

/// Asks one publisher for keyframes, while he is there.
#[derive(Clone, Debug)]
pub struct KeyframeRequests {
    key: PeerKey,
    inbox: Arc<Inbox>,
}

impl KeyframeRequests {
    /// Of what is in the section of that index among those that were accepted.
    pub fn send(&self, section: usize) {
        self.inbox.push(Item::Keyframe(self.key, section));
    }
}

#[derive(Debug)]
struct Closing {
    key: PeerKey,
    inbox: Arc<Inbox>,
    /// Of his thread.
    viewers: Arc<AtomicU64>,
    /// No event follows a close.
    _closed: DropGuard,
}

impl Viewer {
    /// His answer to the offer.
    pub fn answer(&self, sdp: String) {
        self.closing.inbox.push(Item::Answer(self.closing.key, sdp));
    }

    /// Of a track that he was offered he wants that layer. He has it, or what his network bears of it, from its next
    /// keyframe on, under the numbers he knows.
    pub fn set_layer(&self, track: TrackId, layer: LayerChoice) {
        self.closing.inbox.push(Item::Layer(self.closing.key, track, layer));
    }

    /// Other paths are to be found, on the same session. → [`MediaEvent::Offered`] if we offered it; if he did,
    /// `theirs` are his new credentials → [`MediaEvent::Restarted`].
    pub fn restart_ice(&self, theirs: Option<IceCredentials>) {
        self.closing.inbox.push(Item::Restart(self.closing.key, theirs));
    }

    /// Where the connection stands.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// He is gone because DTLS found nothing that both sides take.
    pub fn failed_handshake(&self) -> bool {
        self.failed_handshake.load(Relaxed)
    }

    /// Lets him go; the task ends when he is gone from the media thread.
    pub fn close(self) -> tokio::task::JoinHandle<()> {
        drop(self.closing);
        self.task
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.viewers.fetch_sub(1, Relaxed);
        self.inbox.push(Item::Close(self.key));
    }
}

/// The media thread must not wait for a room that is busy: this task does.
async fn pass_on(
    mut told: mpsc::UnboundedReceiver<MediaEvent>,
    events: mpsc::Sender<MediaEvent>,
    closed: CancellationToken,
    failed_handshake: Arc<AtomicBool>,
) {
    while let Some(event) = told.recv().await {
        if matches!(&event, MediaEvent::ConnectionEnded { error: MediaError::Handshake(_), .. }) {
            failed_handshake.store(true, Relaxed);
        }
        // An error means that the room is gone, and this viewer about to be.
        let _ = closed.run_until_cancelled(events.send(event)).await;
    }
}

/// Hands what comes in to the thread of whom it is for, until the edge ends.
fn receive(sockets: &Sockets, reception: &Reception, stop: &AtomicBool) {
    let mut pace = Pace::default();
    while !stop.load(Relaxed) {
        sockets.receive(&mut pace, |source, destination, received, bytes| {
            reception.take(Remote::udp(source), destination, received, bytes);
        });
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, MediaError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| MediaError::Unavailable(format!("a media thread: {error}")))
}
