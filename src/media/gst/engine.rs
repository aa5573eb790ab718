//! The engine: what this machine can do, and rooms.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{MediaSettings, preset::Presets, room::GstRoom};
use crate::media::{Capabilities, CodecName, MediaEngine, MediaError, MediaEvent, MediaRoom, Unavailable};

/// Without these no media flows at all, and the packages they come in.
const ESSENTIAL: [(&str, &str); 6] = [
    ("webrtcbin", "gstreamer1.0-plugins-bad"),
    ("dtlssrtpenc", "gstreamer1.0-plugins-bad"),
    ("srtpenc", "gstreamer1.0-plugins-bad"),
    ("nicesrc", "gstreamer1.0-nice"),
    ("rtpbin", "gstreamer1.0-plugins-good"),
    ("appsrc", "gstreamer1.0-plugins-base"),
];

/// What decoding a codec takes: all of the first list, one of the second, and where that is found.
fn decoder(codec: CodecName) -> (&'static [&'static str], &'static [&'static str], &'static str) {
    match codec {
        CodecName::Opus => (&["rtpopusdepay"], &["opusdec"], "gstreamer1.0-plugins-base"),
        CodecName::Vp8 => (&["rtpvp8depay"], &["vp8dec"], "gstreamer1.0-plugins-good"),
        CodecName::Vp9 => (&["rtpvp9depay"], &["vp9dec"], "gstreamer1.0-plugins-good"),
        CodecName::H264 => (&["rtph264depay", "h264parse"], &["avdec_h264", "openh264dec"], "gstreamer1.0-libav"),
        CodecName::Av1 => (&["rtpav1depay"], &["dav1ddec", "av1dec"], "gstreamer1.0-plugins-rs"),
    }
}

/// Media on GStreamer and webrtcbin.
pub struct GstEngine {
    settings: Arc<MediaSettings>,
    presets: Arc<Presets>,
    capabilities: Capabilities,
}

impl GstEngine {
    /// Initialises GStreamer and looks at what is there. Takes some 100 ms.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if GStreamer or an element without which nothing works is missing.
    pub fn new(settings: MediaSettings) -> Result<Self, MediaError> {
        gst::init().map_err(|error| MediaError::Unavailable(format!("GStreamer: {error}")))?;
        for (factory, package) in ESSENTIAL {
            if !works(factory) {
                return Err(MediaError::Unavailable(format!("the GStreamer element {factory} (package {package})")));
            }
        }
        let presets = Presets::load(settings.pipelines.as_deref());
        let capabilities = capabilities(&presets);
        Ok(Self { settings: Arc::new(settings), presets: Arc::new(presets), capabilities })
    }
}

impl MediaEngine for GstEngine {
    /// Must be called on a tokio runtime, as must the room's verbs.
    fn open_room(&self, room: &str, events: mpsc::Sender<MediaEvent>) -> Box<dyn MediaRoom> {
        Box::new(GstRoom::new(room, self.settings.clone(), self.presets.clone(), events))
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
    let mut capabilities = Capabilities {
        engine: gst::version_string().into(),
        forward: CodecName::ALL.to_vec(),
        decode: Vec::new(),
        record: presets.can_record() && ["compositor", "audiomixer", "mp4mux"].into_iter().all(works),
        layouts: presets.layouts(),
        unavailable: presets.unavailable().to_vec(),
    };
    for codec in CodecName::ALL {
        let (all, one, package) = decoder(codec);
        if all.iter().all(|factory| works(factory)) && one.iter().any(|factory| works(factory)) {
            capabilities.decode.push(codec);
        } else {
            capabilities.unavailable.push(Unavailable {
                what: format!("decoding {}", codec.encoding_name()),
                reason: format!("it takes {} and one of {}", all.join(", "), one.join(", ")),
                remedy: Some(format!("apt-get install {package}")),
            });
        }
    }
    capabilities
}
