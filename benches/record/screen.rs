//! What recorders of the usual kind do: a browser shows the room, and its screen is filmed.

use std::path::Path;

use super::{SECONDS, desk::Desk};

/// CPU seconds per media second of browser, X server and ffmpeg; `None` where one of them is missing.
pub fn film(clip: &Path, participants: usize, folder: &Path) -> Option<f64> {
    let page = folder.join("room.html");
    let videos = format!("<video src='{}' autoplay muted loop></video>", clip.display()).repeat(participants);
    let style = "body{margin:0;background:#000;display:grid;grid-template-columns:repeat(3,1fr);height:100vh}video{width:100%;height:100%}";
    std::fs::write(&page, format!("<!doctype html><style>{style}</style>{videos}")).unwrap();
    let desk = Desk::open(&format!("file://{}", page.display()), folder)?;
    // It shows its pictures once it uses as much time in one second as in the next.
    desk.settle();
    let before: f64 = desk.used().iter().sum();
    let filming = desk.film(SECONDS, &folder.join("screen.mp4"));
    let showing = desk.used().iter().sum::<f64>() - before;
    Some((showing + filming) / f64::from(SECONDS))
}
