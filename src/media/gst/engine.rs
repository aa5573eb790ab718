//! The engine: what this machine can do, and rooms.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    MediaSettings, MixBudget, decoder, ingest,
    preset::{AudioCodec, Presets},
    room::GstRoom,
};
use crate::{
    ingest::rtsp::Source,
    media::{Capabilities, CodecName, MediaEngine, MediaError, MediaEvent, MediaRoom, fanout::Edge, ingest::Probed},
};

/// Without these no media flows at all, and the packages they come in.
const ESSENTIAL: [(&str, &str); 6] = [
    ("webrtcbin", "gstreamer1.0-plugins-bad"),
    ("dtlssrtpenc", "gstreamer1.0-plugins-bad"),
    ("srtpenc", "gstreamer1.0-plugins-bad"),
    ("nicesrc", "gstreamer1.0-nice"),
    ("rtpbin", "gstreamer1.0-plugins-good"),
    ("appsrc", "gstreamer1.0-plugins-base"),
];

/// Media on GStreamer and webrtcbin.
pub struct GstEngine {
    settings: Arc<MediaSettings>,
    presets: Arc<Presets>,
    /// If viewers are served there.
    edge: Option<Arc<Edge>>,
    mix_budget: MixBudget,
    capabilities: Capabilities,
}

impl GstEngine {
    /// Initialises GStreamer and looks at what is there. Takes some 100 ms.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if GStreamer or an element without which nothing works is missing, or
    /// if the port for viewers cannot be had.
    pub fn new(settings: MediaSettings) -> Result<Self, MediaError> {
        gst::init().map_err(|error| MediaError::Unavailable(format!("GStreamer: {error}")))?;
        for (factory, package) in ESSENTIAL {
            if !works(factory) {
                return Err(MediaError::Unavailable(format!("the GStreamer element {factory} (package {package})")));
            }
        }
        let presets = Presets::load(settings.pipelines.as_deref());
        let edge = if settings.edge.fans_out() { Some(Edge::start(&settings.fanout())?) } else { None };
        let capabilities = capabilities(&presets);
        let mix_budget = MixBudget::new(settings.max_mixes);
        Ok(Self { settings: Arc::new(settings), presets: Arc::new(presets), edge, mix_budget, capabilities })
    }
}

impl MediaEngine for GstEngine {
    /// Must be called on a tokio runtime, as must the room's verbs.
    fn open_room(&self, room: &str, events: mpsc::Sender<MediaEvent>) -> Box<dyn MediaRoom> {
        let (settings, presets) = (self.settings.clone(), self.presets.clone());
        Box::new(GstRoom::new(room, settings, presets, self.edge.clone(), &self.mix_budget, events))
    }

    fn probe(&self, source: Source) -> oneshot::Receiver<Probed> {
        let (answer, probed) = oneshot::channel();
        let presets = self.presets.clone();
        // Whoever asked may have gone; what was begun is ended properly all the same.
        tokio::spawn(async move { answer.send(ingest::probe(&presets, source).await) });
        probed
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

/// Made once for real: an element may be listed by its registry and still not load.
fn works(factory: &str) -> bool {
    gst::ElementFactory::make(factory).build().is_ok()
}

fn capabilities(presets: &Presets) -> Capabilities {
    let (decode, undecodable) = decoder::capabilities();
    let record = presets.can_record() && ["compositor", "audiomixer"].into_iter().all(works);
    Capabilities {
        engine: gst::version_string().into(),
        forward: CodecName::ALL.to_vec(),
        decode,
        record,
        mix: record
            && presets.audio_encoder(AudioCodec::Opus).is_ok()
            && ["rtph264pay", "rtpopuspay"].into_iter().all(works),
        layouts: presets.layouts(),
        effects: presets.effects(),
        previews: presets.previews().clone(),
        unavailable: presets.unavailable().iter().cloned().chain(undecodable).collect(),
    }
}
