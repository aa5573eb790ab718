//! Effects on pictures.

use std::time::Duration;

use salon::media::Kind;
use serde_json::json;

use super::bench::{HEIGHT, Picture, WIDTH, catalogue, has, show, show_at, sizes_through};

const RED: [u8; 3] = [200, 20, 20];
const GREEN: [u8; 3] = [20, 180, 20];
const BLUE: [u8; 3] = [20, 20, 200];
const WHITE: [u8; 3] = [240, 240, 240];
const BLACK: [u8; 3] = [0, 0, 0];
/// Well inside each quarter: top left, top right, bottom left, bottom right.
const QUARTERS: [[usize; 4]; 4] = [[40, 30, 240, 120], [360, 30, 240, 120], [40, 210, 240, 120], [360, 210, 240, 120]];

#[track_caller]
fn assert_quarters(picture: &Picture, expected: [[u8; 3]; 4], what: &str) {
    for (region, colour) in QUARTERS.into_iter().zip(expected) {
        picture.assert_colour(region, colour, what);
    }
}

/// Vertical stripes of black and white.
fn stripes(period: usize) -> Picture {
    Picture::paint(|x, _| if (x / (period / 2)).is_multiple_of(2) { [235; 3] } else { [20; 3] })
}

fn ramp() -> Picture {
    Picture::paint(|x, _| [(16 + x * 219 / WIDTH) as u8; 3])
}

#[test]
fn without_effects_nothing_changes() {
    assert_quarters(&show(&[], &Picture::quarters()), [RED, GREEN, BLUE, WHITE], "control");
}

#[test]
fn mirror() {
    let shown = show(&[("mirror", json!({}))], &Picture::quarters());
    assert_quarters(&shown, [GREEN, RED, WHITE, BLUE], "left and right");
    let shown = show(&[("mirror", json!({"axis": "horizontal"}))], &Picture::quarters());
    assert_quarters(&shown, [BLUE, WHITE, RED, GREEN], "top and bottom");
}

#[test]
fn rotate() {
    let shown = show(&[("rotate", json!({"angle": "180"}))], &Picture::quarters());
    assert_quarters(&shown, [WHITE, BLUE, GREEN, RED], "half a turn");
    for (angle, expected) in [("90", [BLUE, RED, WHITE, GREEN]), ("270", [GREEN, WHITE, RED, BLUE])] {
        let shown = show(&[("rotate", json!({"angle": angle}))], &Picture::quarters());
        let corners = [[230, 20, 70, 140], [340, 20, 70, 140], [230, 200, 70, 140], [340, 200, 70, 140]];
        for (region, colour) in corners.into_iter().zip(expected) {
            shown.assert_colour(region, colour, angle);
        }
        for border in [[10, 10, 190, 340], [440, 10, 190, 340]] {
            shown.assert_colour(border, BLACK, "the borders");
        }
    }
}

#[test]
fn crop() {
    let shown = show(&[("crop", json!({"left": 0.4, "top": 0.4, "right": 0, "bottom": 0}))], &Picture::quarters());
    // A sixth of what is left was in the left and upper half.
    shown.assert_colour([10, 10, 80, 40], RED, "what was left of the middle");
    shown.assert_colour([140, 10, 480, 40], GREEN, "right of it");
    shown.assert_colour([10, 80, 80, 260], BLUE, "below it");
    shown.assert_colour([140, 80, 480, 260], WHITE, "the rest");
}

#[test]
fn blur() {
    let contrast = |picture: &Picture| {
        let row: Vec<f64> = (100..540).map(|x| picture.luma(x, 180)).collect();
        row.iter().copied().fold(f64::MIN, f64::max) - row.iter().copied().fold(f64::MAX, f64::min)
    };
    let fine = stripes(8);
    assert!(contrast(&show(&[], &fine)) > 180.0);
    let shown = show(&[("blur", json!({"strength": 20}))], &fine);
    assert!(contrast(&shown) < 40.0, "{}", contrast(&shown));
    let mean = shown.mean([100, 100, 400, 100])[0];
    assert!((mean - 127.0).abs() < 15.0, "as bright as before: {mean}");
    let weak = show(&[("blur", json!({"strength": 2}))], &stripes(64));
    assert!(contrast(&weak) > 150.0, "what is coarse stays: {}", contrast(&weak));
}

#[test]
fn pixelate() {
    let steps = |picture: &Picture| (1..WIDTH).filter(|x| picture.pixel(*x, 180) != picture.pixel(x - 1, 180)).count();
    assert!(steps(&show(&[], &ramp())) > 150);
    let shown = show(&[("pixelate", json!({"block": 32}))], &ramp());
    assert!((15..=20).contains(&steps(&shown)), "{} steps for 20 blocks", steps(&shown));
    for x in (0..WIDTH).step_by(32) {
        let block = shown.pixel(x + 2, 180);
        assert!((3..30).all(|inside| shown.pixel(x + inside, 180) == block), "block at {x}");
        assert!((shown.luma(x + 16, 180) - ramp().luma(x + 16, 180)).abs() < 12.0, "its colour at {x}");
    }
}

#[test]
fn tone() {
    let grey = Picture::plain([128; 3]);
    let shown = |tone: &str| show(&[("tone", json!({"tone": tone}))], &grey).mean([100, 100, 400, 100]);
    let sepia = shown("sepia");
    assert!(sepia[0] > sepia[1] + 10.0 && sepia[1] > sepia[2] + 10.0, "brownish: {sepia:.0?}");
    let xray = show(&[("tone", json!({"tone": "xray"}))], &ramp());
    assert!(xray.luma(20, 180) > xray.luma(620, 180) + 100.0, "dark is bright");
    let heat = show(&[("tone", json!({"tone": "heat"}))], &ramp());
    let (cold, hot) = (heat.mean([5, 100, 20, 100]), heat.mean([600, 100, 20, 100]));
    assert!(cold[2] > cold[0] && hot[0] > hot[2], "blue to red: {cold:.0?} {hot:.0?}");
    for tone in ["cross-process", "yellow-blue"] {
        let changed = show(&[("tone", json!({"tone": tone}))], &Picture::quarters()).difference(&Picture::quarters());
        assert!(changed > 10.0, "{tone} changes {changed}");
    }
}

#[test]
fn balance() {
    let grey = Picture::plain([100; 3]);
    let luma = |params| show(&[("balance", params)], &grey).luma(320, 180);
    assert!((luma(json!({})) - 100.0).abs() < 4.0, "as it was by default");
    assert!(luma(json!({"brightness": 0.3})) > 150.0);
    assert!(luma(json!({"brightness": -0.3})) < 50.0);
    let flat = show(&[("balance", json!({"contrast": 0}))], &ramp());
    assert!((flat.luma(20, 180) - flat.luma(620, 180)).abs() < 6.0);
    let pale = show(&[("balance", json!({"saturation": 0}))], &Picture::plain(RED)).mean([100, 100, 400, 100]);
    assert!((pale[0] - pale[2]).abs() < 8.0, "{pale:.0?}");
    let turned = show(&[("balance", json!({"hue": 1}))], &Picture::plain(RED)).mean([100, 100, 400, 100]);
    assert!(turned[1] > turned[0] + 40.0, "red becomes its opposite: {turned:.0?}");
}

#[test]
fn greyscale() {
    let shown = show(&[("greyscale", json!({}))], &Picture::quarters());
    for region in QUARTERS {
        let [red, green, blue] = shown.mean(region);
        assert!((red - green).abs() < 8.0 && (green - blue).abs() < 8.0, "{red} {green} {blue}");
    }
    assert!(shown.mean(QUARTERS[3])[0] > shown.mean(QUARTERS[2])[0] + 100.0, "white is brighter than blue");
}

#[test]
fn negative() {
    if has("negative") {
        let shown = show(&[("negative", json!({}))], &Picture::quarters());
        let expected = [RED, GREEN, BLUE, WHITE].map(|colour| colour.map(|value| 255 - value));
        assert_quarters(&shown, expected, "opposites");
    }
}

#[test]
fn edge() {
    let shown = show(&[("edge", json!({}))], &Picture::quarters());
    let flat = shown.mean([60, 60, 200, 60]).iter().sum::<f64>();
    assert!(flat < 60.0, "nothing where nothing ends: {flat}");
    let line = shown.brighter(100.0, [300, 20, 40, 120]);
    assert!(line > 120, "a line between the quarters: {line} pixels");
}

#[test]
fn cartoon() {
    if has("cartoon") {
        let levels = |picture: &Picture| {
            (0..WIDTH).map(|x| picture.luma(x, 180) as u32 / 2).collect::<std::collections::BTreeSet<_>>().len()
        };
        let (before, after) = (levels(&show(&[], &ramp())), levels(&show(&[("cartoon", json!({}))], &ramp())));
        assert!(before > 90 && after < before / 3, "{before} levels of grey become {after}");
        let outlined = show(&[("cartoon", json!({}))], &Picture::quarters());
        let darkest = |picture: &Picture| (300..340).map(|x| picture.luma(x, 90) as u32).min().unwrap();
        let (line, control) = (darkest(&outlined), darkest(&show(&[], &Picture::quarters())));
        assert!(line + 10 < control, "an outline between red and green: {line}, and {control} without");
    }
}

#[test]
fn vignette() {
    if has("vignette") {
        let white = Picture::plain([235; 3]);
        let shown = show(&[("vignette", json!({}))], &white);
        let (middle, corner) = (shown.mean([300, 160, 40, 40])[0], shown.mean([0, 0, 20, 20])[0]);
        assert!(middle > 190.0 && corner < middle - 80.0, "{middle:.0} in the middle, {corner:.0} in the corner");
    }
}

#[test]
fn test_pattern() {
    let shown = show(&[("test-pattern", json!({}))], &Picture::quarters());
    let bars = [[191, 191, 191], [191, 191, 0], [0, 191, 191], [0, 191, 0], [191, 0, 191], [191, 0, 0], [0, 0, 191]];
    for (index, colour) in bars.into_iter().enumerate() {
        let x = index * WIDTH / 7 + 20;
        shown.assert_colour([x, 20, 50, 320], colour, "a bar");
    }
}

#[test]
fn chroma_key() {
    let actor =
        Picture::paint(
            |x, y| {
                if (240..400).contains(&x) && (100..260).contains(&y) { [190, 30, 40] } else { [10, 220, 20] }
            },
        );
    let keyed = json!({"key": "#00ff00", "behind": "#2040c0"});
    let shown = show(&[("chroma-key", keyed.clone())], &actor);
    for region in [[10, 10, 200, 340], [430, 10, 200, 340], [250, 10, 140, 80]] {
        shown.assert_colour(region, [0x20, 0x40, 0xc0], "what was green");
    }
    shown.assert_colour([250, 110, 140, 140], [190, 30, 40], "the subject stays");
    let other = show(&[("chroma-key", json!({"key": "#0000ff"}))], &actor);
    other.assert_colour([10, 10, 200, 340], [10, 220, 20], "another colour is not taken out");
}

#[test]
fn text() {
    let black = Picture::plain(BLACK);
    let drawn = |text: &str| {
        let params = json!({"text": text, "x": 0.5, "y": 0.5, "size": 30});
        show(&[("text", params)], &black).brighter(150.0, [0, 120, WIDTH, 120])
    };
    assert_eq!(drawn(""), 0);
    let one = drawn("A");
    assert!(one > 20, "{one} bright pixels");
    // Markup would be obeyed, or draw nothing at all.
    for text in ["A & B", "<b>A</b>", "가나다라", "\"A\" ! filesink location=/tmp/x"] {
        assert!(drawn(text) > one * 2, "{text}: {}, and A: {one}", drawn(text));
    }
    let placed = |x: f64, y: f64, region| {
        let params = json!({"text": "MMM", "x": x, "y": y, "size": 24, "colour": "#ffffff"});
        show(&[("text", params)], &black).brighter(150.0, region)
    };
    let (left, right) = ([0, 0, 200, 100], [440, 260, 200, 100]);
    assert!(placed(0.0, 0.0, left) > 50 && placed(0.0, 0.0, right) == 0);
    assert!(placed(1.0, 1.0, right) > 50 && placed(1.0, 1.0, left) == 0);
    let red = show(&[("text", json!({"text": "███", "x": 0.5, "y": 0.5, "size": 40, "colour": "#ff0000"}))], &black);
    let [r, g, _] = red.mean([290, 165, 60, 30]);
    assert!(r > g + 60.0, "in its colour: {r:.0} {g:.0}");
    let boxed = show(&[("text", json!({"text": "A", "x": 0.5, "y": 0.5, "box": true}))], &Picture::plain([200; 3]));
    let unboxed = show(&[("text", json!({"text": "A", "x": 0.5, "y": 0.5}))], &Picture::plain([200; 3]));
    let dark = |picture: &Picture| WIDTH * HEIGHT - picture.brighter(170.0, [0, 0, WIDTH, HEIGHT]);
    assert!(dark(&boxed) > dark(&unboxed) + 100, "{} {}", dark(&boxed), dark(&unboxed));
}

#[test]
fn lower_third() {
    let grey = Picture::plain([120; 3]);
    let shown = show(&[("lower-third", json!({"title": "김철수 & Co", "subtitle": "Maths <3"}))], &grey);
    let letters = shown.brighter(200.0, [20, 250, 300, 100]);
    assert!(letters > 200, "{letters}");
    shown.assert_colour([0, 0, WIDTH, 220], [120; 3], "the upper two thirds");
    let (title, subtitle) = (shown.brighter(200.0, [20, 250, 300, 58]), shown.brighter(200.0, [20, 312, 300, 45]));
    assert!(title > 80 && subtitle > 40, "{title} {subtitle}");
    let alone = show(&[("lower-third", json!({"title": "A", "subtitle": ""}))], &grey);
    assert!(alone.brighter(200.0, [20, 318, 300, 40]) < subtitle / 4);
}

#[test]
fn clock() {
    let black = Picture::plain(BLACK);
    let (top, bottom) = ([0, 0, 320, 80], [320, 280, 320, 80]);
    let time = show(&[("clock", json!({}))], &black);
    assert!(time.brighter(150.0, top) > 100 && time.brighter(150.0, bottom) == 0);
    let moved = show(&[("clock", json!({"corner": "bottom-right", "format": "date-time"}))], &black);
    assert!(moved.brighter(150.0, top) == 0);
    assert!(moved.brighter(150.0, bottom) > time.brighter(150.0, top) * 3 / 2, "the date is longer than the time");
}

#[test]
fn timecode() {
    let at = |seconds| show_at(&[("timecode", json!({}))], &Picture::plain(BLACK), Duration::from_secs(seconds));
    let (one, again, later) = (at(3), at(3), at(4711));
    assert!(one.brighter(150.0, [320, 0, 320, 60]) > 100);
    assert!(one.difference(&again) < 0.01, "the same time looks the same");
    assert!(one.difference(&later) > 0.05, "another time looks different");
}

#[test]
fn a_chain_is_done_in_its_order() {
    let half = json!({"left": 0, "right": 0.45, "top": 0, "bottom": 0});
    let crop_first = show(&[("crop", half.clone()), ("mirror", json!({}))], &Picture::quarters());
    crop_first.assert_colour([300, 30, 300, 120], RED, "cropped to its left, then mirrored");
    let mirror_first = show(&[("mirror", json!({})), ("crop", half)], &Picture::quarters());
    mirror_first.assert_colour([30, 30, 300, 120], GREEN, "mirrored, then cropped to what is left");
    let all = [
        ("greyscale", json!({})),
        ("blur", json!({})),
        ("chroma-key", json!({})),
        ("edge", json!({})),
        ("rotate", json!({})),
        ("pixelate", json!({})),
        ("tone", json!({})),
        ("text", json!({"text": "Salon"})),
    ];
    assert!(show(&all, &Picture::quarters()).brighter(150.0, [0, 280, WIDTH, 80]) > 30, "eight in a row");
}

/// A publisher's picture changes its size with his network: no effect may stumble over it.
#[test]
fn pictures_that_change_their_size_go_through_every_effect() {
    let sizes = [(640, 360), (480, 270), (320, 180), (427, 241), (640, 360), (214, 120), (1280, 720)];
    let pictures = catalogue().into_iter().filter(|effect| effect.kind == Kind::Video).map(|effect| effect.name);
    let mut chains: Vec<Vec<String>> = pictures.map(|name| vec![name]).collect();
    let long = ["blur", "cartoon", "chroma-key", "pixelate", "crop", "rotate", "image-overlay", "picture-in-picture"];
    chains.push(long.into_iter().filter(|name| has(name)).map(str::to_owned).collect());
    for names in chains {
        let asked: Vec<_> = names.iter().map(|name| (name.as_str(), json!({}))).collect();
        assert_eq!(sizes_through(&asked, &sizes), sizes, "{names:?}");
    }
}

#[test]
fn gstreamer_video() {
    let line = |line: &str| show(&[("gstreamer-video", json!({"line": line}))], &Picture::quarters());
    assert_quarters(&line("videoflip method=horizontal-flip"), [GREEN, RED, WHITE, BLUE], "mirrored");
    let both = line("videoflip method=rotate-180 ! videobalance saturation=0");
    let [red, green, blue] = both.mean(QUARTERS[0]);
    assert!(
        (red - blue).abs() < 8.0 && (red - green).abs() < 8.0 && red > 220.0,
        "white, and without colour: {red} {green} {blue}"
    );
    let text = line("textoverlay text=\"A & <b>\" valignment=center halignment=center font-desc=\"Sans 40\"");
    assert!(text.difference(&Picture::quarters()) > 0.5, "it is drawn as it is written");
}
