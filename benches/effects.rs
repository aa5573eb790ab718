//! What each effect costs, and how it looks: writes `docs/effects.md`, a preview picture of each beside its
//! file, the figures as JSON, and a plot that compares with the same filter in ffmpeg. `script/bench effects` runs it.
//!
//! Time of a processor core, measured on the thread that does the work, conversions included. Of effects that look
//! at pictures beside the stream, and of ffmpeg, it is the time of the process, less that of the same run without
//! the effect. `cargo bench --bench effects -- plot` measures nothing: it draws the plot from the JSON.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command};

use gst::prelude::*;
use image::{RgbImage, imageops::FilterType};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use rustix::time::{ClockId, clock_gettime};
use salon::{
    effect::{Applied, Cost, Effect, EffectRequest, Picture, Range, resolve},
    media::{
        Kind,
        gst::{
            effect::{Chain, Reports},
            preset::Presets,
        },
    },
};
use serde_json::{Value, json};

const SIZES: [(u32, u32); 2] = [(640, 360), (1280, 720)];
const FRAMES: u32 = 150;
/// Of ffmpeg, whose filters are measured with its test picture.
const FFMPEG_FRAMES: u32 = 100;
/// Blocks of 20 ms of sound.
const BLOCKS: u32 = 500;
const PREVIEW: (u32, u32) = (160, 90);
/// They look at a few pictures a second on a thread of their own, so that they are measured in real time.
const BESIDE: [&str; 4] = ["barcode", "face-blur", "face-detector", "face-overlay"];
/// Effects that ffmpeg has too, and how.
const FFMPEG: [(&str, &str); 15] = [
    ("balance", "eq=saturation=1.8:contrast=1.2"),
    ("blur", "boxblur=10"),
    ("chroma-key", "chromakey=0x3fae6b:0.2"),
    ("crop", "crop=iw*0.8:ih*0.8,scale=WIDTH:HEIGHT"),
    ("edge", "edgedetect"),
    ("greyscale", "hue=s=0"),
    ("mirror", "hflip"),
    ("negative", "negate"),
    ("rotate", "transpose=1,scale=WIDTH:HEIGHT"),
    ("text", "drawtext=text=Salon:fontsize=60:x=100:y=200:fontcolor=white"),
    ("vignette", "vignette"),
    ("echo", "aecho=0.8:0.5:300:0.3"),
    ("gain", "volume=0.5"),
    ("high-pass", "highpass=f=120"),
    ("compressor", "acompressor=threshold=0.063:ratio=3"),
];

/// One effect's figures: of pictures in ms a frame at both sizes, of sound in ms a second.
struct Row {
    effect: Effect,
    ours: Vec<f64>,
    ffmpeg: Vec<f64>,
}

const FIGURES: &str = "docs/benchmarks/effects.json";
const PLOT: &str = "docs/benchmarks/effects.svg";

fn main() {
    if std::env::args().any(|argument| argument == "plot") {
        let figures = serde_json::from_str(&fs::read_to_string(FIGURES).unwrap()).unwrap();
        return plot(&compared(&figures), Path::new(PLOT));
    }
    gst::init().unwrap();
    let presets = Presets::load(None);
    let scene = fs::read("benches/effects/scene.svg").unwrap();
    let scene = Picture::decode(&scene).unwrap();
    let nothing = SIZES.map(|size| pictures(&presets, &[], &scene, size, true).process_ms);
    let mut rows = Vec::new();
    for effect in presets.effects() {
        let chain = chain_of(&presets, &effect);
        let is_beside = BESIDE.contains(&effect.name.as_str());
        let ours = match effect.kind {
            Kind::Video => {
                let shown = SIZES.map(|size| pictures(&presets, &chain, &scene, size, is_beside));
                save(&effect.name, &shown[0].last);
                let less = |(shown, nothing): (&Shown, f64)| (shown.process_ms - nothing).max(shown.chain_ms);
                let ms = shown.iter().zip(nothing);
                ms.map(|pair| if is_beside { less(pair) } else { pair.0.chain_ms }).collect()
            }
            Kind::Audio => vec![sound(&presets, &chain)],
        };
        if !is_of_class(&effect, &ours) {
            println!("{} does not cost what its file says", effect.name);
        }
        let ffmpeg = ffmpeg(&effect);
        println!("{:>20} {ours:.3?} ffmpeg {ffmpeg:.3?}", effect.name);
        rows.push(Row { effect, ours, ffmpeg });
    }
    fs::write("docs/effects.md", page(&rows, &presets)).unwrap();
    let figures = figures(&rows);
    fs::write(FIGURES, serde_json::to_string_pretty(&figures).unwrap() + "\n").unwrap();
    plot(&compared(&figures), Path::new(PLOT));
}

fn chain_of(presets: &Presets, effect: &Effect) -> Vec<Applied> {
    let request = EffectRequest { name: effect.name.clone(), params: effect.shown.clone() };
    resolve(&[request], &presets.effects(), &[]).unwrap()
}

/// Within what the file says of it; sound has no classes that differ.
fn is_of_class(effect: &Effect, ours: &[f64]) -> bool {
    let percent = ours[0] * if effect.kind == Kind::Video { 3.0 } else { 0.1 };
    match effect.cost {
        Cost::Low => percent <= 3.0,
        Cost::Medium => percent <= 10.0,
        Cost::High => true,
    }
}

/// What a run gave.
struct Shown {
    /// Milliseconds a frame, on the chain's own thread.
    chain_ms: f64,
    /// Of the whole process.
    process_ms: f64,
    last: RgbImage,
}

fn process_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn pictures(
    presets: &Presets,
    chain: &[Applied],
    scene: &Picture,
    (width, height): (u32, u32),
    in_real_time: bool,
) -> Shown {
    let pixels = image::RgbaImage::from_raw(scene.width, scene.height, scene.rgba.clone()).unwrap();
    let pixels = image::imageops::resize(&pixels, width, height, FilterType::Triangle);
    let pixels = image::DynamicImage::from(pixels).into_rgb8().into_raw();
    let head = format!(
        "appsrc name=in format=time block=true max-buffers=4 max-bytes=0 ! videoconvert ! video/x-raw,format=I420 ! identity name=end sync={in_real_time}"
    );
    let tail = "identity name=begin ! videoconvert ! video/x-raw,format=RGB ! appsink name=out sync=false max-buffers=1 drop=true wait-on-eos=false";
    let (pipeline, built) = around(presets, Kind::Video, chain, &head, tail);
    let source = pipeline.by_name("in").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height).fps(25).build().unwrap();
    source.set_caps(Some(&info.to_caps().unwrap()));
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut before = process_ms();
    // In real time, the first second, in which files are read, does not count.
    let counted = if in_real_time { FRAMES - 25 } else { FRAMES };
    for index in 0..FRAMES {
        if index == FRAMES - counted {
            before = process_ms();
        }
        let mut buffer = gst::Buffer::from_slice(pixels.clone());
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(40 * u64::from(index)));
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    wait(&pipeline);
    let process_ms = (process_ms() - before) / f64::from(counted);
    let sample = sink.property::<Option<gst::Sample>>("last-sample").unwrap();
    let map = sample.buffer().unwrap().map_readable().unwrap();
    let last = RgbImage::from_raw(width, height, map.to_vec()).unwrap();
    let chain_ms = built.costs().iter().map(|cost| cost.cpu_ms_per_frame).sum();
    pipeline.set_state(gst::State::Null).unwrap();
    Shown { chain_ms, process_ms, last }
}

/// Milliseconds a second of sound.
fn sound(presets: &Presets, chain: &[Applied]) -> f64 {
    let head = format!(
        "audiotestsrc wave=pink-noise num-buffers={BLOCKS} samplesperbuffer=960 ! audio/x-raw,format=S16LE,rate=48000,channels=2 ! identity name=end"
    );
    let (pipeline, built) = around(presets, Kind::Audio, chain, &head, "identity name=begin ! fakesink");
    pipeline.set_state(gst::State::Playing).unwrap();
    wait(&pipeline);
    let costs = built.costs();
    pipeline.set_state(gst::State::Null).unwrap();
    costs.iter().map(|cost| cost.cpu_ms_per_frame * cost.frames as f64).sum::<f64>() / (f64::from(BLOCKS) * 0.02)
}

fn around(presets: &Presets, kind: Kind, chain: &[Applied], head: &str, tail: &str) -> (gst::Pipeline, Chain) {
    let built = Chain::build(presets, kind, chain, &Reports::default()).unwrap();
    let pipeline = gst::Pipeline::new();
    let [head, tail] = [head, tail].map(|line| gst::parse::bin_from_description(line, true).unwrap());
    pipeline.add_many([head.upcast_ref(), built.element(), tail.upcast_ref()]).unwrap();
    gst::Element::link_many([head.upcast_ref(), built.element(), tail.upcast_ref()]).unwrap();
    (pipeline, built)
}

fn wait(pipeline: &gst::Pipeline) {
    let bus = pipeline.bus().unwrap();
    let message =
        bus.timed_pop_filtered(gst::ClockTime::from_seconds(120), &[gst::MessageType::Eos, gst::MessageType::Error]);
    assert!(matches!(message.as_ref().map(|message| message.view()), Some(gst::MessageView::Eos(_))), "{message:?}");
}

fn save(name: &str, image: &RgbImage) {
    let small = image::imageops::resize(image, PREVIEW.0, PREVIEW.1, FilterType::Triangle);
    let mut bytes = std::io::Cursor::new(Vec::new());
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 80);
    small.write_with_encoder(encoder).unwrap();
    fs::write(format!("pipelines/effects/{name}.jpg"), bytes.into_inner()).unwrap();
}

fn ffmpeg(effect: &Effect) -> Vec<f64> {
    let Some((_, filter)) = FFMPEG.iter().find(|(name, _)| *name == effect.name) else { return Vec::new() };
    let run = |input: &str, filter: Option<(&str, String)>| -> f64 {
        let mut command = Command::new("ffmpeg");
        command.args([
            "-nostdin",
            "-v",
            "info",
            "-benchmark",
            "-threads",
            "1",
            "-filter_threads",
            "1",
            "-f",
            "lavfi",
            "-i",
            input,
        ]);
        if let Some((flag, filter)) = filter {
            command.args([flag, &filter]);
        }
        let said = command.args(["-f", "null", "-"]).output().unwrap();
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.success(), "{text}");
        let bench = text.lines().find(|line| line.starts_with("bench: utime=")).unwrap();
        let time =
            |name: &str| -> f64 { bench.split(name).nth(1).unwrap().split('s').next().unwrap().parse().unwrap() };
        time("utime=") + time("stime=")
    };
    // The least of three rounds, the two in turns: what else runs only adds to them.
    let filtered = |input: &str, flag: &str, filter: &str| -> f64 {
        let rounds = (0..3).map(|_| (run(input, Some((flag, filter.to_owned()))), run(input, None)));
        let (with, without) =
            rounds.fold((f64::MAX, f64::MAX), |least, round| (least.0.min(round.0), least.1.min(round.1)));
        (with - without).max(0.0) * 1e3
    };
    match effect.kind {
        Kind::Video => SIZES
            .map(|(width, height)| {
                let input = format!("testsrc2=s={width}x{height}:r=25:d={},format=yuv420p", FFMPEG_FRAMES / 25);
                let filter = filter.replace("WIDTH", &width.to_string()).replace("HEIGHT", &height.to_string());
                filtered(&input, "-vf", &(filter + ",format=yuv420p")) / f64::from(FFMPEG_FRAMES)
            })
            .to_vec(),
        Kind::Audio => vec![filtered("anoisesrc=c=pink:r=48000:d=60", "-af", filter) / 60.0],
    }
}

fn page(rows: &[Row], presets: &Presets) -> String {
    let mut page = String::from(
        "# Effects\n\nWritten by `script/bench effects`: what there is, how it looks, what may be said of it, and the time of a \
         processor core that it takes. `GET /api/effects` has the same for programs; `pipelines/README.md` says how to add one.\n\n",
    );
    writeln!(
        page,
        "Measured on {}, {}, {}. Conversions between formats are in the figures, and so is what effects on faces and \
         `barcode` do beside the stream. Costs are the classes of a room's budget: 1 point for low, 3 for medium, 10 for \
         high. ffmpeg: the nearest filter there, on one thread, at both sizes, to about \
         0.1 ms ([plot](benchmarks/effects.svg), [figures](benchmarks/effects.json)).\n",
        machine(),
        gst::version_string(),
        build()
    )
    .unwrap();
    writeln!(
        page,
        "## On pictures\n\n| | effect | parameters | cost | 640×360, ms a frame | 1280×720 | ffmpeg |\n\
         | --- | --- | --- | --- | --- | --- | --- |"
    )
    .unwrap();
    let figures = |figures: &[f64]| figures.iter().map(|ms| format!("{ms:.2}")).collect::<Vec<_>>().join(" / ");
    for Row { effect, ours, ffmpeg } in rows.iter().filter(|row| row.effect.kind == Kind::Video) {
        let (name, title) = (&effect.name, &effect.title.en);
        writeln!(
            page,
            "| ![{title}](../pipelines/effects/{name}.jpg) | **{title}** `{name}` | {} | {} | {:.2} | {:.2} | {} |",
            parameters(effect),
            class(effect.cost),
            ours[0],
            ours[1],
            figures(ffmpeg)
        )
        .unwrap();
    }
    writeln!(
        page,
        "\n## On sound\n\n| effect | parameters | cost | ms a second of sound | ffmpeg |\n\
         | --- | --- | --- | --- | --- |"
    )
    .unwrap();
    for Row { effect, ours, ffmpeg } in rows.iter().filter(|row| row.effect.kind == Kind::Audio) {
        writeln!(
            page,
            "| **{}** `{}` | {} | {} | {:.2} | {} |",
            effect.title.en,
            effect.name,
            parameters(effect),
            class(effect.cost),
            ours[0],
            figures(ffmpeg)
        )
        .unwrap();
    }
    let missing: Vec<_> =
        presets.unavailable().iter().filter(|entry| entry.what.starts_with("pipelines/effects/")).collect();
    if !missing.is_empty() {
        writeln!(
            page,
            "\nNot measured here: {}.",
            missing.iter().map(|entry| format!("`{}` ({})", entry.what, entry.reason)).collect::<Vec<_>>().join(", ")
        )
        .unwrap();
    }
    page
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} ({cores} cores)", model.map_or("?", |text| text.trim_matches([' ', '\t', ':'])))
}

fn build() -> String {
    if !cfg!(debug_assertions) {
        return "in a release build".into();
    }
    let level = std::env::var("CARGO_PROFILE_DEV_OPT_LEVEL").unwrap_or_else(|_| "0".into());
    format!("in a development build (Salon's own code at optimisation level {level}; most effects are GStreamer's C)")
}

fn class(cost: Cost) -> &'static str {
    match cost {
        Cost::Low => "low",
        Cost::Medium => "medium",
        Cost::High => "high",
    }
}

/// All figures, for programs.
fn figures(rows: &[Row]) -> Value {
    let sizes = SIZES.map(|(width, height)| format!("{width}x{height}"));
    let of = |kind: Kind, values: &[f64]| -> Value {
        let rounded = values.iter().map(|ms| (ms * 1e3).round() / 1e3);
        match kind {
            Kind::Video => json!(sizes.iter().zip(rounded).collect::<BTreeMap<_, _>>()),
            Kind::Audio => json!(rounded.collect::<Vec<_>>().first()),
        }
    };
    let effects = rows.iter().map(|Row { effect, ours, ffmpeg }| {
        let mut row =
            json!({"name": effect.name, "kind": effect.kind, "cost": effect.cost, "salon": of(effect.kind, ours)});
        if !ffmpeg.is_empty() {
            row["ffmpeg"] = of(effect.kind, ffmpeg);
        }
        row
    });
    json!({
        "machine": machine(),
        "gstreamer": gst::version_string().as_str(),
        "build": build(),
        "unit": "ms of a core: a frame of video, a second of audio",
        "effects": effects.collect::<Vec<_>>(),
    })
}

fn parameters(effect: &Effect) -> String {
    let one = |parameter: &salon::effect::Parameter| {
        let range = match &parameter.range {
            Range::Number { min, max, unit, .. } => {
                format!("{min} to {max}{}", unit.as_ref().map_or(String::new(), |unit| format!(" {unit}")))
            }
            Range::Text { max_chars, .. } => format!("text, {max_chars} characters"),
            Range::Toggle { .. } => "true or false".into(),
            Range::Choice { options, .. } => {
                options.iter().map(|option| option.value.as_str()).collect::<Vec<_>>().join(", ")
            }
            Range::Colour { .. } => "`#rrggbb`".into(),
            Range::Picture { options, .. } => format!(
                "{}, or a picture of the room",
                options.iter().map(|option| option.value.as_str()).collect::<Vec<_>>().join(", ")
            ),
            Range::Launch { .. } => "a launch line".into(),
        };
        format!("`{}`: {range}{}", parameter.name, if parameter.live { "" } else { " (begins anew)" })
    };
    effect.parameters.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// One effect on the plot: its name, and milliseconds a frame at each size.
struct Compared {
    name: String,
    salon: Vec<f64>,
    ffmpeg: Vec<f64>,
}

/// Those on pictures that ffmpeg has too, of the figures as they are written.
fn compared(figures: &Value) -> Vec<Compared> {
    let ms = |of: &Value| SIZES.map(|(width, height)| of[format!("{width}x{height}")].as_f64().unwrap()).to_vec();
    let rows = figures["effects"].as_array().unwrap().iter();
    rows.filter(|row| row["kind"] == "video" && row.get("ffmpeg").is_some())
        .map(|row| Compared {
            name: row["name"].as_str().unwrap().to_owned(),
            salon: ms(&row["salon"]),
            ffmpeg: ms(&row["ffmpeg"]),
        })
        .collect()
}

/// For each size a panel with bars: ours above ffmpeg's. The panels have scales of their own.
fn plot(rows: &[Compared], path: &Path) {
    let root = SVGBackend::new(path, (1100, 60 + 36 * rows.len() as u32)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    for (size, area) in root.split_evenly((1, SIZES.len())).iter().enumerate() {
        panel(rows, size, area, &root);
    }
    root.present().unwrap();
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What is said at a bar lies where the whole plot has it.
fn panel(rows: &[Compared], size: usize, area: &Area<'_>, root: &Area<'_>) {
    let most = rows.iter().flat_map(|row| [row.salon[size], row.ffmpeg[size]]).fold(1.0, f64::max);
    let (width, height) = SIZES[size];
    let caption = format!("ms of a core a frame, {width}×{height}: Salon (dark), ffmpeg (light)");
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(90)
        .build_cartesian_2d(0.0..most * 1.15, 0.0..rows.len() as f64)
        .unwrap();
    chart.configure_mesh().disable_y_mesh().y_labels(0).draw().unwrap();
    let words = ("sans-serif", 13).into_font().color(&BLACK);
    for (index, row) in rows.iter().enumerate() {
        let base = index as f64;
        let bar = |from: f64, to: f64, value: f64, colour: RGBColor| {
            Rectangle::new([(0.0, base + from), (value, base + to)], colour.filled())
        };
        chart
            .draw_series([
                bar(0.52, 0.88, row.salon[size], RGBColor(14, 106, 90)),
                bar(0.12, 0.48, row.ffmpeg[size], RGBColor(188, 213, 204)),
            ])
            .unwrap();
        for (value, height) in [(row.salon[size], 0.7), (row.ffmpeg[size], 0.3)] {
            let (x, y) = chart.backend_coord(&(value, base + height));
            let style = words.clone().pos(Pos::new(HPos::Left, VPos::Center));
            root.draw_text(&format!("{value:.1}"), &style, (x + 5, y)).unwrap();
        }
        let (x, y) = chart.backend_coord(&(0.0, base + 0.5));
        let style = words.clone().pos(Pos::new(HPos::Right, VPos::Center));
        root.draw_text(&row.name, &style, (x - 8, y)).unwrap();
    }
}
