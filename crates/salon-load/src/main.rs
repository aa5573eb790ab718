//! Loads a Salon server, and says what viewers saw of it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of the command line speaks there")]

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use salon_load::{
    native::Participant,
    report::{self, Joins, Window},
    session::Session,
    whip::{Opened, Server},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

/// A viewer who is not connected by then is an error.
const CONNECT: Duration = Duration::from_secs(20);

/// Publishes a clip into a room of a Salon server and watches it, often at once, without a browser; says how much got
/// lost, how long it was under way, how long joining took, and what the server took for it.
///
/// One publisher and many viewers over WHIP and WHEP, or with --meeting so many participants who all publish and watch
/// each other. Use it against a server of your own: what it sends is what the server and the network have to carry.
#[derive(Debug, Parser)]
#[command(name = "salon-load", version)]
struct Arguments {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    server: String,
    /// The room; it appears if there is none of that name.
    #[arg(long, default_value = "load")]
    room: String,
    /// What opens the room: the API secret, an access token or the room's PIN (with --meeting: the PIN).
    #[arg(long, env = "SALON_LOAD_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Takes any certificate, for servers that made their own (not with --meeting).
    #[arg(long)]
    insecure: bool,
    /// Viewers of the publisher.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=5000))]
    viewers: u32,
    /// Participants who all publish and watch each other, instead.
    #[arg(long, conflicts_with_all = ["viewers", "mix"], value_parser = clap::value_parser!(u32).range(2..=50))]
    meeting: Option<u32>,
    /// The viewers watch the room's mix.
    #[arg(long)]
    mix: bool,
    /// Joins a second.
    #[arg(long, default_value_t = 8.0, value_parser = at_least_a_tenth)]
    rate: f64,
    /// How long each window of watching is, at most two minutes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    /// Windows, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    windows: u32,
    /// The server's process, if it runs on this machine: what it takes is measured.
    #[arg(long)]
    process: Option<u32>,
    /// Where all figures go, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn at_least_a_tenth(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.1..=1000.0).contains(&rate) { Ok(rate) } else { Err("from 0.1 to 1000".into()) }
}

/// Who is there.
enum Crowd {
    Audience { server: Server, publisher: Box<Opened>, viewers: Vec<Opened> },
    Meeting(Vec<Participant>),
}

#[tokio::main]
async fn main() -> Result<()> {
    // Fails if there is one already, which is then as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = Arguments::parse();
    if let Some(process) = arguments.process {
        salon_load::process::Usage::of(process)?;
    }
    let crowd = tokio::select! {
        crowd = gather(&arguments) => crowd?,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    tokio::select! {
        measured = measure(&arguments, &crowd) => measured?,
        _ = tokio::signal::ctrl_c() => println!("stopped"),
    }
    leave(crowd).await;
    Ok(())
}

/// Everybody is there when this is done.
async fn gather(arguments: &Arguments) -> Result<Crowd> {
    let (server, room) = (&arguments.server, &arguments.room);
    let mut next = Instant::now();
    if let Some(number) = arguments.meeting {
        let mut participants = Vec::new();
        for index in 1..=number {
            sleep_until(next).await;
            next += Duration::from_secs_f64(1.0 / arguments.rate);
            let pin = arguments.token.as_deref();
            let participant = Participant::join(server, room, &format!("load {index}"), pin, true).await?;
            participant.published.as_ref().context("it publishes")?.connected(CONNECT).await?;
            participants.push(participant);
            progress(index, number);
        }
        timeout(CONNECT, all_watch(&participants)).await.context("not everybody is watched by everybody")?;
        return Ok(Crowd::Meeting(participants));
    }
    let server = Server::new(server, arguments.token.clone(), arguments.insecure).await?;
    let publisher = server.publish(room).await?;
    publisher.session.connected(CONNECT).await?;
    let mut viewers = Vec::new();
    for index in 1..=arguments.viewers {
        sleep_until(next).await;
        next += Duration::from_secs_f64(1.0 / arguments.rate);
        viewers.push(server.watch(room, arguments.mix).await?);
        progress(index, arguments.viewers);
    }
    for viewer in &viewers {
        viewer.session.connected(CONNECT).await?;
    }
    Ok(Crowd::Audience { server, publisher: Box::new(publisher), viewers })
}

async fn all_watch(participants: &[Participant]) {
    let others = participants.len() - 1;
    let watches = |one: &Participant| {
        let watched = one.watched();
        watched.len() == others && watched.iter().all(|session| session.tally().connected.is_some())
    };
    while !participants.iter().all(watches) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn progress(there: u32, of: u32) {
    if there == of || there.is_multiple_of(10) {
        eprintln!("{there} of {of} joined");
    }
}

async fn measure(arguments: &Arguments, crowd: &Crowd) -> Result<()> {
    let watched: Vec<_> = match crowd {
        Crowd::Audience { .. } => Vec::new(),
        Crowd::Meeting(participants) => participants.iter().flat_map(Participant::watched).collect(),
    };
    let sessions: Vec<&Session> = match crowd {
        Crowd::Audience { viewers, .. } => viewers.iter().map(|viewer| &viewer.session).collect(),
        Crowd::Meeting(_) => watched.iter().map(AsRef::as_ref).collect(),
    };
    let mut windows = Vec::new();
    for _ in 0..arguments.windows {
        let window = report::watch(&sessions, arguments.process, Duration::from_secs(arguments.seconds)).await?;
        say(&window);
        windows.push(window);
    }
    let joins = Joins::of(sessions.iter().copied());
    let (connected, picture) = (joins.connected_ms, joins.first_picture_ms);
    println!("joined in {:.0} ms (p50), {:.0} ms (p99)", connected.p50, connected.p99);
    if picture.count > 0 {
        println!("first whole picture after {:.0} ms (p50), {:.0} ms (p99)", picture.p50, picture.p99);
    }
    let gone: Vec<String> = sessions.iter().filter_map(|session| session.tally().ended.clone()).collect();
    let profile = sessions.iter().find_map(|session| session.tally().profile());
    if let Some(path) = &arguments.json {
        let report: Value = json!({"windows": windows, "joins": joins, "ended": gone, "srtp": profile});
        fs::write(path, format!("{report:#}\n")).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    ensure!(gone.is_empty(), "{} sessions ended by themselves: {}", gone.len(), gone[0]);
    let silent = windows.iter().map(|window| window.without_packets).max().unwrap_or_default();
    ensure!(silent == 0, "{silent} connections had nothing in a whole window");
    Ok(())
}

fn say(window: &Window) {
    let share = window.lost as f64 * 100.0 / (window.packets + window.lost).max(1) as f64;
    println!(
        "{} connections, {:.1} Mbit/s: {} packets, {} lost ({share:.2} %), latency {:.1} ms (p50), {:.1} ms (p99), \
         longest pause {:.0} ms",
        window.viewers,
        window.mbit_per_s,
        window.packets,
        window.lost,
        window.latency_ms.p50,
        window.latency_ms.p99,
        window.pause_ms.max,
    );
    if let Some(server) = &window.server {
        println!(
            "  server: {:.1} µs a packet, {:.0} % of a processor, {:.0} MiB, {} threads, {} descriptors",
            server.us_per_packet,
            server.processors * 100.0,
            server.usage.rss_kib as f64 / 1024.0,
            server.usage.threads,
            server.usage.descriptors,
        );
    }
}

/// The server is told; what it does not hear of, it notices.
async fn leave(crowd: Crowd) {
    let Crowd::Audience { server, publisher, viewers } = crowd else { return };
    for opened in viewers.into_iter().chain([*publisher]) {
        if let Err(error) = server.close(opened).await {
            eprintln!("a session was not ended: {error:#}");
        }
    }
}
