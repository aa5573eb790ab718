//! What benches have in common: what a process has taken, on which machine, and a picture of it.

use std::path::Path;

use plotters::prelude::*;
use serde_json::{Value, json};

/// Times of a process in seconds: see [`ticks`].
pub fn cpu_seconds(process: &str, fields: [usize; 2]) -> f64 {
    ticks(&std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap(), fields)
}

/// Fields of a `/proc/…/stat`, counted from behind the name, in seconds: 11 and 12 are a process's own time (user,
/// system), 13 and 14 that of its children that have ended.
pub fn ticks(stat: &str, fields: [usize; 2]) -> f64 {
    let values: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Ticks of 10 ms.
    fields.iter().map(|field| values[*field].parse::<f64>().unwrap() / 100.0).sum()
}

/// What it was measured on.
pub fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1.to_owned()));
    let load = read("/proc/loadavg").split(' ').next().map(str::to_owned);
    json!({
        "cpu": model,
        "cores": std::thread::available_parallelism().map(usize::from).ok(),
        "load_at_the_end": load,
        "gstreamer": gst::version_string().to_string(),
    })
}

/// A line of a plot: its name, its points and its colour.
pub type Line = (&'static str, Vec<(f64, f64)>, RGBColor);

/// Draws lines from 0 on as SVG, under a caption and over the names of both axes.
pub fn plot(target: &Path, caption: &str, [across, up]: [&str; 2], lines: Vec<Line>) {
    let all = || lines.iter().flat_map(|(_, points, _)| points);
    let highest = all().map(|(_, y)| *y).fold(0.0, f64::max);
    let widest = all().map(|(x, _)| *x).fold(1.0, f64::max);
    let area = SVGBackend::new(target, (720, 420)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..widest + 1.0, 0.0..highest * 1.3)
        .unwrap();
    chart.configure_mesh().x_desc(across).y_desc(up).draw().unwrap();
    for (name, points, colour) in lines {
        let series = LineSeries::new(points, colour.stroke_width(2)).point_size(4);
        chart
            .draw_series(series)
            .unwrap()
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
    }
    chart.configure_series_labels().border_style(BLACK).draw().unwrap();
    area.present().unwrap();
}

/// A bar of a plot: its name, and its parts from below.
pub type Bar = (String, Vec<(&'static str, f64)>);

/// Draws bars of several parts from 0 on as SVG, under a caption; their names and those of the parts with their heights
/// are written on them.
pub fn bars(target: &Path, caption: &str, up: &str, bars: &[Bar]) {
    const COLOURS: [RGBColor; 5] = [
        RGBColor(0x4c, 0x78, 0xa8),
        RGBColor(0xf5, 0x85, 0x18),
        RGBColor(0x54, 0xa2, 0x4b),
        RGBColor(0xe4, 0x57, 0x56),
        RGBColor(0x72, 0xb7, 0xb2),
    ];
    let height = |(_, parts): &Bar| parts.iter().map(|(_, value)| value).sum::<f64>();
    let highest = bars.iter().map(height).fold(0.0, f64::max);
    let area = SVGBackend::new(target, (720, 420)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 20))
        .margin(12)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..bars.len() as f64, 0.0..highest * 1.15)
        .unwrap();
    chart.configure_mesh().disable_x_mesh().disable_x_axis().y_max_light_lines(1).y_desc(up).draw().unwrap();
    for (index, bar) in bars.iter().enumerate() {
        let left = index as f64 + 0.1;
        let write = |text: String, y: f64| Text::new(text, (left, y), ("sans-serif", 14));
        let mut below = 0.0;
        for ((name, value), colour) in bar.1.iter().zip(COLOURS) {
            let part = Rectangle::new([(left, below), (left + 0.25, below + value)], colour.filled());
            chart.draw_series([part]).unwrap();
            let beside =
                Text::new(format!("{name} {value:.2}"), (left + 0.27, below + value * 0.6), ("sans-serif", 13));
            chart.draw_series([beside]).unwrap();
            below += value;
        }
        chart.draw_series([write(format!("{}: {below:.2}", bar.0), below + highest * 0.07)]).unwrap();
    }
    area.present().unwrap();
}
