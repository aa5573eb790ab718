//! Sources that are no RTSP: HLS, MP4, Motion JPEG, SRT, RTMP and files, watched by somebody who says which
//! colour he sees and which tone he hears. ffmpeg makes and sends them.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use common::{
    camera::{Fetched, source},
    client::{GREEN, RED},
    hall::Hall,
    rtmp, soon, web,
};
use salon::{
    ingest::rtsp::{Source, Transport},
    media::ingest::{Handling, IngestMedia, IngestState},
};
use tokio::process::{Child, Command};

/// What ffmpeg makes: a colour and a tone, for so many seconds, in H.264 with B-frames and AAC.
fn ffmpeg(colour: u32, tone: u32, before: &[&str], seconds: u32) -> Command {
    let picture = format!("color=0x{colour:06X}:size=320x240:rate=25");
    let sound = format!("aevalsrc=0.5*sin({tone}*2*PI*t):sample_rate=48000");
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error"]).args(before).args(["-f", "lavfi", "-i", &picture]);
    command.args(before).args(["-f", "lavfi", "-i", &sound, "-t", &seconds.to_string()]);
    command.args([
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-bf",
        "2",
        "-g",
        "25",
        "-pix_fmt",
        "yuv420p",
        "-c:a",
        "aac",
        "-y",
    ]);
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

async fn make(command: &mut Command, file: &Path) {
    let made = soon("ffmpeg's file", command.arg(file).status()).await.unwrap();
    assert!(made.success(), "{command:?}");
}

fn fetched_from(uri: &str, folder: &Path) -> Source {
    let source = source(uri, Transport::Auto);
    let allow = source.allow.clone().with_folder(Some(folder.to_owned()));
    Source { allow, ..source }
}

/// A viewer sees and hears it, and it goes on; gives what is done to its picture.
async fn is_watched(source: Source, tone: Option<u32>) -> Handling {
    let what = source.uri.to_string();
    let hall = Hall::open();
    let began = Instant::now();
    let mut fetched = Fetched::start(&hall, source);
    let tracks = fetched.opened().await;
    assert_eq!(tracks.len(), 1 + usize::from(tone.is_some()), "{what}");
    let viewer = hall.watch(&tracks).await;
    match tone {
        Some(tone) => viewer.client.sees_and_hears(RED, tone).await,
        None => drop(viewer.client.until("the picture", |seen| seen.is(RED)).await),
    }
    println!("{what} is seen after {:?}", began.elapsed());
    let (frames, since) = (viewer.client.seen().frames, Instant::now());
    viewer.client.until("two seconds more", |seen| seen.frames >= frames + 50).await;
    let took = since.elapsed();
    // At its own pace: neither all at once nor slower.
    assert!(took > Duration::from_millis(1300), "{what}: fifty pictures within {took:?}");
    let works = |handling| matches!(handling, Handling::Forwarded | Handling::Transcoded);
    let is_on_air = |media: &Option<IngestMedia>| media.as_ref().is_some_and(|media| works(media.handling));
    let status = fetched.until("life", |it| it.state == IngestState::Live && is_on_air(&it.video)).await;
    hall.shut().await;
    status.video.unwrap().handling
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fetched_over_http_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    make(ffmpeg(RED, 440, &[], 12).args(["-movflags", "+faststart"]), &at("film.mp4")).await;
    make(
        ffmpeg(RED, 440, &[], 1).args(["-frames:v", "1", "-an", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-bf", "0"]),
        &at("picture.jpg"),
    )
    .await;
    let hls = ["-f", "hls", "-hls_time", "1", "-hls_list_size", "5", "-hls_flags", "delete_segments"];
    let mut live = ffmpeg(RED, 440, &["-re"], 60).args(hls).arg(at("live.m3u8")).spawn().unwrap();
    let parts = [
        "-f",
        "hls",
        "-hls_time",
        "2",
        "-hls_segment_type",
        "fmp4",
        "-hls_playlist_type",
        "vod",
        "-master_pl_name",
        "all.m3u8",
    ];
    make(ffmpeg(RED, 440, &[], 12).args(parts), &at("parts.m3u8")).await;
    let server = web::serve(folder.path()).await;
    for (path, tone) in
        [("to/film.mp4", Some(440)), ("camera.mjpeg", None), ("live.m3u8", Some(440)), ("all.m3u8", Some(440))]
    {
        let source = fetched_from(&format!("http://{server}/{path}"), folder.path());
        assert_eq!(is_watched(source, tone).await, Handling::Transcoded, "B-frames, and pictures one by one");
    }
    live.kill().await.unwrap();
}

/// Somebody who sends when he is called.
fn sender(kind: &[&str], address: &str) -> Child {
    ffmpeg(RED, 440, &["-re"], 60).args(["-bf", "0"]).args(kind).arg(address).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn srt_rtmp_and_files_are_watched() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // Shorter than it is watched, so that it begins again.
    make(&mut ffmpeg(RED, 440, &[], 2), &at("loop.mp4")).await;
    is_watched(fetched_from("file:///loop.mp4", folder.path()), Some(440)).await;
    make(ffmpeg(RED, 440, &[], 2).args(["-c:v", "mpeg4", "-bf", "0"]), &at("old.mp4")).await;
    let handling = is_watched(fetched_from("file:///old.mp4", folder.path()), Some(440)).await;
    assert_eq!(handling, Handling::Transcoded, "MPEG-4 part 2");
    let free = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = free();
    let mut srt = sender(&["-f", "mpegts"], &format!("srt://{address}?mode=listener"));
    is_watched(fetched_from(&format!("srt://{address}?latency=100"), folder.path()), Some(440)).await;
    srt.kill().await.unwrap();
    let address = free();
    let mut rtmp = sender(&["-f", "flv", "-listen", "1"], &format!("rtmp://{address}/live/key"));
    let address = rtmp::relay(address).await;
    is_watched(fetched_from(&format!("rtmp://{address}/live/key"), folder.path()), Some(440)).await;
    rtmp.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_off_is_a_slate_until_it_is_back() {
    let hall = Hall::open();
    let address = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = format!("srt://{address}?mode=listener");
    let mut first = sender(&["-f", "mpegts"], &listen);
    let mut fetched = Fetched::start(&hall, fetched_from(&format!("srt://{address}"), Path::new("/nowhere")));
    let tracks = fetched.opened().await;
    let viewer = hall.watch(&tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    first.kill().await.unwrap();
    fetched.until("the loss", |status| status.state == IngestState::Waiting).await;
    viewer.client.until("the slate", |seen| !seen.is(RED)).await;
    let _second = ffmpeg(GREEN, 880, &["-re"], 60).args(["-f", "mpegts", &listen]).spawn().unwrap();
    viewer.client.sees_and_hears(GREEN, 880).await;
    let status = fetched.until("the return", |status| status.state == IngestState::Live).await;
    assert_eq!(status.reconnects, 1);
    hall.shut().await;
}
