//! Effects on faces: a portrait that moves, grows and turns along a known path, and a drawn face.

use std::{sync::Arc, time::Duration};

use resvg::{tiny_skia, usvg};
use salon::{
    effect::{EffectRequest, Picture as Given, resolve},
    media::{EffectReport, MediaEvent, gst::effect::Reports},
    room::id::TrackId,
};
use serde_json::json;
use tokio::sync::mpsc;

use super::bench::{HEIGHT, Picture, WIDTH, catalogue, chain, has, play_live, stare};

const STEP: Duration = Duration::from_millis(40);
/// Sides of the drawing (`face.svg`), and the width of the face in it.
const DRAWING: (f32, f32) = (200.0, 240.0);
const FACE_WIDTH: f32 = 132.0;

/// Where the drawing is in a frame: its middle in pixels, how many times its size, and its roll in degrees.
#[derive(Clone, Copy)]
struct Pose {
    x: f32,
    y: f32,
    scale: f32,
    roll: f32,
}

impl Pose {
    /// Still for a second and a half; then to and fro at up to half a face's width a second, nearer and
    /// further, and rolling within 10°.
    fn at(time: f32) -> Self {
        let moving = (time - 1.5).max(0.0);
        let scale = 0.75 + 0.08 * (moving * 0.8).sin();
        let reach = 0.45 * FACE_WIDTH * 0.75 / 0.9;
        Self {
            x: 320.0 + reach * (moving * 0.9).sin(),
            y: 175.0 + 12.0 * (moving * 0.7).sin(),
            scale,
            roll: 10.0 * (moving * 1.1).sin(),
        }
    }

    /// Of something whose middle is there.
    fn transform(self, middle: (f32, f32)) -> tiny_skia::Transform {
        tiny_skia::Transform::from_translate(-middle.0, -middle.1)
            .post_rotate(self.roll)
            .post_scale(self.scale, self.scale)
            .post_translate(self.x, self.y)
    }
}

/// `portrait.jpg`, and what was read off it by eye, in its pixels: the middle between the pupils, the root of the
/// nose that it turns about, and the width from ear to ear.
const EYES: (f32, f32) = (125.2, 102.0);
const NOSE: (f32, f32) = (125.0, 118.0);
const EARS: f32 = 89.0;

fn portrait() -> tiny_skia::Pixmap {
    let rgb = image::load_from_memory(include_bytes!("portrait.jpg")).unwrap().to_rgba8();
    let size = tiny_skia::IntSize::from_wh(rgb.width(), rgb.height()).unwrap();
    tiny_skia::Pixmap::from_vec(rgb.into_raw(), size).unwrap()
}

fn photograph(portrait: &tiny_skia::Pixmap, pose: Pose) -> Picture {
    let mut canvas = tiny_skia::Pixmap::new(WIDTH as u32, HEIGHT as u32).unwrap();
    canvas.fill(tiny_skia::Color::from_rgba8(120, 130, 140, 255));
    let paint = tiny_skia::PixmapPaint { quality: tiny_skia::FilterQuality::Bilinear, ..Default::default() };
    canvas.draw_pixmap(0, 0, portrait.as_ref(), &paint, pose.transform(NOSE), None);
    Picture { rgb: canvas.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect() }
}

fn drawing() -> usvg::Tree {
    usvg::Tree::from_str(include_str!("face.svg"), &usvg::Options::default()).unwrap()
}

fn frame(tree: &usvg::Tree, pose: Pose) -> Picture {
    let mut canvas = tiny_skia::Pixmap::new(WIDTH as u32, HEIGHT as u32).unwrap();
    canvas.fill(tiny_skia::Color::from_rgba8(120, 130, 140, 255));
    resvg::render(tree, pose.transform((DRAWING.0 / 2.0, DRAWING.1 / 2.0)), &mut canvas.as_mut());
    Picture { rgb: canvas.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect() }
}

/// The middle of all that is purely green, and how many pixels it has.
fn green(picture: &Picture) -> Option<(f32, f32, usize)> {
    let (mut x_sum, mut y_sum, mut count) = (0usize, 0usize, 0usize);
    for (x, y) in (0..HEIGHT).step_by(2).flat_map(|y| (0..WIDTH).step_by(2).map(move |x| (x, y))) {
        let [red, green, blue] = picture.pixel(x, y);
        if green > 180 && red < 90 && blue < 90 {
            (x_sum, y_sum, count) = (x_sum + x, y_sum + y, count + 1);
        }
    }
    (count > 25).then(|| (x_sum as f32 / count as f32, y_sum as f32 / count as f32, count))
}

#[test]
fn face_overlay() {
    if !has("face-overlay") {
        return;
    }
    let svg = br##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><rect width="10" height="10" fill="#00ff00"/></svg>"##;
    let patch = Arc::new(Given::decode(svg).unwrap());
    let params = json!({"picture": patch.id.as_str(), "place": "eyes", "size": 0.3});
    let request: EffectRequest = serde_json::from_value(json!({"name": "face-overlay", "params": params})).unwrap();
    let chain = resolve(&[request], &catalogue(), &[patch]).unwrap();
    let portrait = portrait();
    let pose = |index| Pose { scale: Pose::at(index).scale * FACE_WIDTH / EARS, ..Pose::at(index) };
    let poses: Vec<Pose> = (0..150).map(|index| pose(index as f32 * 0.04)).collect();
    let frames: Vec<Picture> = poses.iter().map(|pose| photograph(&portrait, *pose)).collect();
    let shown = play_live(&chain, &frames, STEP, &Reports::default());
    assert_eq!(shown.len(), frames.len());
    let off: Vec<f32> = shown[38..]
        .iter()
        .zip(&poses[38..])
        .map(|(shown, pose)| {
            let mut truth = tiny_skia::Point::from_xy(EYES.0, EYES.1);
            pose.transform(NOSE).map_point(&mut truth);
            green(shown).map_or(1.0, |(x, y, _)| (x - truth.x).hypot(y - truth.y) / (pose.scale * EARS))
        })
        .collect();
    let mut sorted = off.clone();
    sorted.sort_by(f32::total_cmp);
    let at = |share: f32| sorted[(share * (sorted.len() - 1) as f32) as usize];
    println!(
        "off by {:.3} of its width in half of the frames, {:.3} in 95 %, {:.3} at most",
        at(0.5),
        at(0.95),
        at(1.0)
    );
    assert!(at(0.95) < 0.08, "{:.3}", at(0.95));
    // It does not jitter either: from frame to frame it moves as the face does.
    let jump = off.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
    assert!(jump < 0.06, "{jump}");
}

#[test]
fn face_blur() {
    if !has("face-blur") {
        return;
    }
    let tree = drawing();
    let still: Vec<Picture> = (0..40).map(|_| frame(&tree, Pose::at(0.0))).collect();
    // Eyes, nose and mouth: what a person is known by are edges.
    let edges = |picture: &Picture| {
        let region = (110..250).flat_map(|y| (260..380).map(move |x| (x, y)));
        region.filter(|(x, y)| (picture.luma(*x, *y) - picture.luma(x + 2, *y)).abs() > 20.0).count()
    };
    let before = edges(&still[0]);
    assert!(before > 600, "{before}");
    for style in ["blur", "blocks"] {
        let shown = play_live(&chain(&[("face-blur", json!({"style": style}))]), &still, STEP, &Reports::default());
        let after = edges(shown.last().unwrap());
        // The borders of blocks are edges too.
        let most = if style == "blur" { before / 3 } else { before / 2 };
        assert!(after < most, "{style}: {before} edges, and {after}");
        let corner = [0, 0, 120, 360];
        shown.last().unwrap().assert_colour(corner, [120, 130, 140], "beside the face all is as it was");
    }
}

#[test]
fn face_detector() {
    if !has("face-detector") {
        return;
    }
    let tree = drawing();
    let mut frames: Vec<Picture> = (0..35).map(|_| frame(&tree, Pose::at(0.0))).collect();
    frames.extend((0..50).map(|_| Picture::plain([120, 130, 140])));
    let (events, mut received) = mpsc::channel(64);
    let reports = Reports::of_track(&TrackId::random(), &events);
    play_live(&chain(&[("face-detector", json!({}))]), &frames, STEP, &reports);
    let mut counts = Vec::new();
    while let Ok(MediaEvent::EffectReported { report: EffectReport::Faces(faces), .. }) = received.try_recv() {
        if let Some(face) = faces.first() {
            let middle = (face.x + face.width / 2.0, face.y + face.height / 2.0);
            assert!((middle.0 - 0.5).abs() < 0.04 && (middle.1 - 0.49).abs() < 0.12, "{face:?}");
            assert!((face.width * 640.0 - 100.0).abs() < 35.0, "{face:?}");
        }
        counts.push(faces.len());
    }
    assert_eq!((counts.first(), counts.last()), (Some(&1), Some(&0)), "{counts:?}");
    assert!(counts.iter().all(|count| *count <= 1), "{counts:?}");
}

/// A phone that is held upright: the face is as wide in it as it is.
#[test]
fn face_in_an_upright_picture() {
    if !has("face-detector") {
        return;
    }
    let (width, height) = (360, 640);
    let mut canvas = tiny_skia::Pixmap::new(width, height).unwrap();
    canvas.fill(tiny_skia::Color::from_rgba8(120, 130, 140, 255));
    // The middle of the drawing at 180, 420.
    let placed = tiny_skia::Transform::from_translate(180.0 - DRAWING.0 / 2.0, 420.0 - DRAWING.1 / 2.0);
    resvg::render(&drawing(), placed, &mut canvas.as_mut());
    let rgb: Vec<u8> = canvas.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect();
    let (events, mut received) = mpsc::channel(64);
    let reports = Reports::of_track(&TrackId::random(), &events);
    stare(&chain(&[("face-detector", json!({}))]), (width, height), &rgb, &reports);
    let Ok(MediaEvent::EffectReported { report: EffectReport::Faces(faces), .. }) = received.try_recv() else {
        panic!("no face is told")
    };
    let [face] = &faces[..] else { panic!("one face: {faces:?}") };
    let (wide, high) = (face.width * f64::from(width), face.height * f64::from(height));
    // With the hair, as it is in a picture that lies.
    assert!((wide / f64::from(FACE_WIDTH) - 1.0).abs() < 0.4, "{wide} wide: {face:?}");
    assert!((wide / high - 1.0).abs() < 0.1, "cascades find squares: {wide} × {high}");
    let middle = ((face.x + face.width / 2.0) * 360.0, (face.y + face.height / 2.0) * 640.0);
    assert!((middle.0 - 180.0).hypot(middle.1 - 420.0) < 0.25 * wide, "{middle:?}");
}
