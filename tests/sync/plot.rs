//! The figures of a meeting as JSON, and as a plot.

use std::path::Path;

use plotters::prelude::*;
use serde_json::json;

use crate::marks::{self, Pair, Tone};

const COLOURS: [RGBColor; 3] = [RGBColor(0x1f, 0x77, 0xb4), RGBColor(0xd6, 0x27, 0x28), RGBColor(0x2c, 0xa0, 0x2c)];

/// Writes `sync.json` and `sync.svg` into `folder`.
pub fn write(folder: &Path, seconds: u64, fast_ppm: i32, series: &[(&str, Vec<Pair>)], tone: &Tone) {
    std::fs::create_dir_all(folder).unwrap();
    let of = |(name, pairs): &(&str, Vec<Pair>)| {
        json!({
            "member": name,
            "flashes_with_a_beep": pairs.len(),
            "apart_ms_p50": rounded(marks::percentile(pairs, 0.5)),
            "apart_ms_p99": rounded(marks::percentile(pairs, 0.99)),
            "apart_ms_max": rounded(marks::percentile(pairs, 1.0)),
            "growth_ms_per_minute": rounded(marks::slope(pairs) * 60.0),
        })
    };
    let figures = json!({
        "what": "sound after picture in a composite recording, by the flashes and beeps of each member",
        "seconds": seconds,
        "drift_ppm": fast_ppm,
        "loss": 0.05,
        "members": series.iter().map(of).collect::<Vec<_>>(),
        "tone": {
            "pitch_hz": tone.pitch,
            "heard_share": tone.heard,
            "longest_gap_ms": rounded(tone.longest_gap_s),
            "largest_jump_turns": tone.largest_jump_turns,
        },
    });
    std::fs::write(folder.join("sync.json"), format!("{figures:#}\n")).unwrap();
    draw(&folder.join("sync.svg"), seconds, fast_ppm, series).unwrap();
}

fn draw(
    file: &Path,
    seconds: u64,
    fast_ppm: i32,
    series: &[(&str, Vec<Pair>)],
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(file, (960, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let caption = format!("Sound after picture, {seconds} s, drift {fast_ppm} ppm, 5 % loss");
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..seconds as f64, -60.0..60.0)?;
    chart.configure_mesh().x_desc("seconds").y_desc("ms").draw()?;
    for limit in [-40.0, 40.0] {
        chart.draw_series(LineSeries::new([(0.0, limit), (seconds as f64, limit)], BLACK.mix(0.4)))?;
    }
    for ((name, pairs), colour) in series.iter().zip(COLOURS) {
        let dots = pairs.iter().map(|(time, apart)| Circle::new((*time, apart * 1e3), 2, colour.filled()));
        chart.draw_series(dots)?.label(*name).legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 10.0
}
