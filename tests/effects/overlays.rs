//! Pictures over and behind the picture: built in, and as people send them.

use std::sync::Arc;

use salon::effect::{Applied, EffectRequest, Picture as Given, resolve};
use serde_json::{Value, json};

use super::bench::{HEIGHT, Picture, WIDTH, catalogue, show, show_applied};

/// Red on its left, blue on its right, and nothing in its lower half.
fn given() -> Arc<Given> {
    let svg = br##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 20"><rect width="10" height="10" fill="#c81414"/><rect x="10" width="10" height="10" fill="#1414c8"/></svg>"##;
    Arc::new(Given::decode(svg).unwrap())
}

fn with_picture(name: &str, params: Value, picture: &Arc<Given>) -> Vec<Applied> {
    let request: EffectRequest = serde_json::from_value(json!({"name": name, "params": params})).unwrap();
    resolve(&[request], &catalogue(), std::slice::from_ref(picture)).unwrap()
}

#[test]
fn image_overlay() {
    let (picture, ground) = (given(), Picture::plain([20, 180, 20]));
    let overlay = |x: f64, y: f64, size: f64, opacity: f64| {
        let params = json!({"picture": picture.id.as_str(), "x": x, "y": y, "size": size, "opacity": opacity});
        show_applied(&with_picture("image-overlay", params, &picture), &ground)
    };
    let shown = overlay(0.5, 0.5, 0.25, 1.0);
    // 160 × 160 in the middle.
    shown.assert_colour([250, 110, 60, 60], [200, 20, 20], "its left");
    shown.assert_colour([330, 110, 60, 60], [20, 20, 200], "its right");
    shown.assert_colour([250, 190, 140, 60], [20, 180, 20], "its lower half is not there");
    shown.assert_colour([0, 0, 230, HEIGHT], [20, 180, 20], "and nothing beside it");
    let half = overlay(0.5, 0.5, 0.25, 0.5);
    half.assert_colour([250, 110, 60, 60], [110, 100, 20], "half of it");
    let outside = overlay(1.0, 0.0, 0.5, 1.0);
    outside.assert_colour([500, 4, 120, 70], [20, 180, 20], "beyond the edge it is cut off");
    let corner = overlay(1.0, 1.0, 0.5, 1.0);
    corner.assert_colour([490, 210, 140, 140], [200, 20, 20], "its left upper quarter is in the corner");
}

#[test]
fn logo() {
    let ground = Picture::plain([20, 20, 20]);
    let quarters = [[0, 0], [WIDTH / 2, 0], [0, HEIGHT / 2], [WIDTH / 2, HEIGHT / 2]];
    let names = ["top-left", "top-right", "bottom-left", "bottom-right"];
    for (index, corner) in names.into_iter().enumerate() {
        let shown = show(&[("logo", json!({"picture": "star", "corner": corner, "size": 0.2}))], &ground);
        for (at, [x, y]) in quarters.into_iter().enumerate() {
            let bright = shown.brighter(120.0, [x, y, WIDTH / 2, HEIGHT / 2]);
            assert_eq!(bright > 1_000, at == index, "{corner}: {bright} bright pixels in {}", names[at]);
        }
    }
}

#[test]
fn picture_in_picture() {
    let params = json!({"behind": "none", "colour": "#c81414", "x": 0.25, "y": 0.25, "size": 0.5});
    let shown = show(&[("picture-in-picture", params)], &Picture::quarters());
    shown.assert_colour([330, 10, 300, 340], [200, 20, 20], "the colour, on its right");
    shown.assert_colour([10, 190, 300, 160], [200, 20, 20], "and below");
    shown.assert_colour([170, 10, 140, 70], [20, 180, 20], "its right upper quarter");
    shown.assert_colour([170, 100, 140, 70], [240, 240, 240], "its right lower quarter");
    let dusk = show(
        &[("picture-in-picture", json!({"behind": "dusk", "x": 1.0, "y": 1.0, "size": 0.5}))],
        &Picture::quarters(),
    );
    let [red, green, blue] = dusk.mean([10, 5, 100, 20]);
    assert!(blue > red + 20.0 && blue > green + 20.0 && blue < 120.0, "a dark blue sky: {red:.0} {green:.0} {blue:.0}");
    dusk.assert_colour([490, 190, 140, 70], [20, 180, 20], "it stays within the frame");
}

#[test]
fn a_picture_behind_a_colour_key() {
    let (picture, green) = (given(), Picture::plain([10, 220, 20]));
    let params = json!({"key": "#00ff00", "behind": "#202020", "picture": picture.id.as_str()});
    let shown = show_applied(&with_picture("chroma-key", params, &picture), &green);
    // The picture is square: its middle covers the frame, and its lower half lets the colour through.
    shown.assert_colour([20, 20, 280, 140], [200, 20, 20], "its left");
    shown.assert_colour([340, 20, 280, 140], [20, 20, 200], "its right");
    shown.assert_colour([20, 200, 600, 140], [32, 32, 32], "the colour below");
}
