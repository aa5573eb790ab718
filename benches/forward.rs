//! What forwarding costs, against Janus' VideoRoom in the same run: `script/bench forward` runs it.
//!
//! Both servers stand beside each other with the same viewers and the same media, on loopback; publishers send to one
//! and then to the other, in turns. Viewers and publishers are of crates/salon-load, in this process.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::{path::Path, time::Duration};

use plotters::style::{BLUE, GREEN, RED};
use salon_load::{
    janus,
    native::Participant,
    process::Usage,
    report::{self, Joins, Window},
    session::Session,
    whip,
};
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep};

#[allow(dead_code, reason = "shared with the other benches")]
mod figures;
#[path = "forward/floor.rs"]
mod floor;
#[allow(dead_code, reason = "shared with the other benches")]
#[path = "forward/servers.rs"]
mod servers;

use floor::floor;
use servers::Running;

/// Viewers of one publisher; `viewers=50` on the command line asks for others.
const AUDIENCES: [usize; 3] = [50, 100, 150];
/// Salon alone.
const CROWD: usize = 500;
/// Everybody watches everybody.
const MEETING: usize = 12;
/// Windows with each server, `windows=2` likewise; and how long one is.
const WINDOWS: usize = 5;
const WINDOW: Duration = Duration::from_secs(5);
/// What flows for so long is not measured.
const WARM: Duration = Duration::from_secs(1);
/// Between two joins: Salon takes ten a second from one address.
const PACE: Duration = Duration::from_millis(110);
const CONNECT: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let asked = |name: &str| std::env::args().find_map(|it| it.strip_prefix(name).map(str::to_owned));
    let list = |text: String| text.split(',').filter_map(|it| it.parse().ok()).collect::<Vec<usize>>();
    let audiences = asked("viewers=").map_or(AUDIENCES.to_vec(), list);
    let windows = asked("windows=").map_or(WINDOWS, |it| it.parse().unwrap());
    let crowd = asked("crowd=").map_or(CROWD, |it| it.parse().unwrap());
    let meeting = asked("meeting=").map_or(MEETING, |it| it.parse().unwrap());

    let mut rows = Vec::new();
    for viewers in audiences {
        rows.push(audience(viewers, windows).await);
        println!("{:#}", rows[rows.len() - 1]);
    }
    let alone = if crowd > 0 { Some(alone(crowd, windows).await) } else { None };
    println!("{alone:#?}");
    let mut meetings = Vec::new();
    for edge in ["auto", "fanout"] {
        if meeting > 1 {
            meetings.push(meet(meeting, windows, edge).await);
            println!("{:#}", meetings[meetings.len() - 1]);
        }
    }
    let bytes = rows.iter().find_map(|row| row["bytes_per_packet"].as_f64()).unwrap_or(700.0) as usize;
    let report = json!({
        "what": "forwarding: VP8 640×360 at 25 fps and Opus, one publisher, viewers on loopback; medians of alternating \
                 windows, µs of the server's processor time for each packet that a viewer had; setting up a viewer includes his signalling",
        "machine": figures::machine(),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "window_s": WINDOW.as_secs(),
        "windows": windows,
        "floor_us_per_packet": floor(bytes),
        "audiences": rows,
        "alone": alone,
        "meetings": meetings,
    });
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("forward.json"), format!("{report:#}\n")).unwrap();
    plot(&target.join("forward.svg"), &report);
}

/// A server with an audience.
struct House {
    server: Running,
    empty: Usage,
    publisher: Session,
    viewers: Vec<Session>,
    /// Of the second half, who came while it was playing.
    joins: Joins,
    /// Processor time for each viewer of the first half, who came while nothing was sent.
    setup_ms: f64,
}

impl House {
    async fn fill(server: Running, publisher: Session, viewers: usize, join: impl AsyncFn() -> Session) -> Self {
        publisher.connected(CONNECT).await.unwrap();
        sleep(WARM).await;
        publisher.send(false);
        sleep(WARM).await;
        let empty = server.usage();
        let mut there = Vec::new();
        let mut pace = interval(PACE);
        let first_half = viewers.div_ceil(2);
        while there.len() < first_half {
            pace.tick().await;
            there.push(join().await);
        }
        for viewer in &there {
            viewer.connected(CONNECT).await.unwrap();
        }
        let setup_ms = (server.usage().cpu_s - empty.cpu_s) * 1e3 / first_half as f64;
        publisher.send(true);
        sleep(WARM).await;
        while there.len() < viewers {
            pace.tick().await;
            there.push(join().await);
        }
        for viewer in &there {
            viewer.connected(CONNECT).await.unwrap();
        }
        sleep(WARM).await;
        publisher.send(false);
        let joins = Joins::of(&there[first_half..]);
        Self { server, empty, publisher, viewers: there, joins, setup_ms }
    }

    async fn window(&self) -> Seen {
        window(&self.server, &[&self.publisher], &self.viewers.iter().collect::<Vec<_>>()).await
    }

    fn report(&self, windows: &[Seen]) -> Value {
        let usage = self.server.usage();
        let each = |now: u64, before: u64| (now as f64 - before as f64) / self.viewers.len() as f64;
        json!({
            "us_per_packet": median(windows, |it| it.window.server.unwrap().us_per_packet),
            "processors": median(windows, |it| it.window.server.unwrap().processors),
            "latency_ms_p50": median(windows, |it| it.window.latency_ms.p50),
            "latency_ms_p99": median(windows, |it| it.window.latency_ms.p99),
            "packets": windows.iter().map(|it| it.window.packets).sum::<u64>(),
            "lost": windows.iter().map(|it| it.window.lost).sum::<u64>(),
            "bytes_per_packet": median(windows, |it| it.window.mbit_per_s * it.window.seconds * 1e6 / 8.0 / it.window.packets.max(1) as f64),
            "setup_ms_per_viewer": self.setup_ms,
            "threads": usage.threads,
            "threads_per_viewer": each(usage.threads, self.empty.threads),
            "descriptors_per_viewer": each(usage.descriptors, self.empty.descriptors),
            "kib_per_viewer": each(usage.rss_kib, self.empty.rss_kib),
            "joins": self.joins,
            "srtp": self.viewers[0].tally().profile(),
            "delivered": median(windows, |it| it.share),
            "raw": raw(windows),
        })
    }
}

/// A window, and the share that viewers had of what publishers sent.
struct Seen {
    window: Window,
    share: f64,
}

/// Publishers send for one window, and rest again; as many viewers watch each of them.
async fn window(server: &Running, publishers: &[&Session], viewers: &[&Session]) -> Seen {
    publishers.iter().for_each(|publisher| publisher.send(true));
    sleep(WARM).await;
    publishers.iter().for_each(|publisher| drop(publisher.tally().take()));
    let window = report::watch(viewers, Some(server.process), WINDOW).await.unwrap();
    let sent: u64 = publishers.iter().map(|publisher| publisher.tally().take().sent).sum();
    publishers.iter().for_each(|publisher| publisher.send(false));
    sleep(WARM).await;
    let each = viewers.len() as f64 / publishers.len() as f64;
    let share = window.packets as f64 / (sent as f64 * each);
    Seen { window, share }
}

fn raw(windows: &[Seen]) -> Vec<&Window> {
    windows.iter().map(|it| &it.window).collect()
}

fn median(windows: &[Seen], of: impl Fn(&Seen) -> f64) -> f64 {
    let mut values: Vec<f64> = windows.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    (low + high) / 2.0
}

async fn salon_house(viewers: usize) -> House {
    let server = servers::salon(&servers::measured(), "auto", &[]).await;
    let door = whip::Server::new(&server.url, None, false).await.unwrap();
    let publisher = door.publish("bench").await.unwrap().session;
    let url = server.url.clone();
    House::fill(server, publisher, viewers, async || {
        // A connection of his own for each, as viewers come.
        let door = whip::Server::new(&url, None, false).await.unwrap();
        door.watch("bench", false).await.unwrap().session
    })
    .await
}

async fn janus_house(viewers: usize) -> Option<House> {
    let server = servers::janus().await?;
    let door = janus::Server::new(&server.url, servers::outward()).await.unwrap();
    let opened = door.publish(1).await.unwrap();
    let join = async || door.watch(1, opened.feed).await.unwrap().session;
    Some(House::fill(server, opened.session, viewers, join).await)
}

async fn audience(viewers: usize, windows: usize) -> Value {
    let salon = salon_house(viewers).await;
    let janus = janus_house(viewers).await;
    let (mut of_salon, mut of_janus) = (Vec::new(), Vec::new());
    for _ in 0..windows {
        of_salon.push(salon.window().await);
        if let Some(janus) = &janus {
            of_janus.push(janus.window().await);
        }
    }
    let salon = salon.report(&of_salon);
    let janus = janus.map(|janus| janus.report(&of_janus));
    json!({"viewers": viewers, "ratios": ratios(&salon, janus.as_ref()), "bytes_per_packet": salon["bytes_per_packet"],
        "salon": salon, "janus": janus})
}

/// Salon's figures as shares of Janus'.
fn ratios(salon: &Value, janus: Option<&Value>) -> Value {
    let Some(janus) = janus else { return Value::Null };
    let of = |name: &str| salon[name].as_f64().zip(janus[name].as_f64()).map(|(salon, janus)| salon / janus);
    json!({"us_per_packet": of("us_per_packet"), "latency_ms_p50": of("latency_ms_p50"),
        "setup_ms_per_viewer": of("setup_ms_per_viewer"), "kib_per_viewer": of("kib_per_viewer")})
}

async fn alone(viewers: usize, windows: usize) -> Value {
    let salon = salon_house(viewers).await;
    let mut seen = Vec::new();
    for _ in 0..windows {
        seen.push(salon.window().await);
    }
    json!({"viewers": viewers, "salon": salon.report(&seen)})
}

/// Everybody publishes and watches everybody, a connection for each pair.
async fn meet(number: usize, windows: usize, edge: &str) -> Value {
    let server = servers::salon(&servers::measured(), edge, &[]).await;
    let mut people = Vec::new();
    for index in 0..number {
        people.push(Participant::join(&server.url, "bench", &format!("guest {index}"), None, true).await.unwrap());
        people[index].published.as_ref().unwrap().connected(CONNECT).await.unwrap();
    }
    let end = Instant::now() + CONNECT;
    let all_there = |one: &Participant| {
        let watched = one.watched();
        watched.len() == number - 1 && watched.iter().all(|session| session.tally().connected.is_some())
    };
    while !people.iter().all(all_there) {
        assert!(Instant::now() < end, "not everybody watches everybody");
        sleep(Duration::from_millis(50)).await;
    }
    let watched: Vec<_> = people.iter().flat_map(Participant::watched).collect();
    let watched: Vec<&Session> = watched.iter().map(AsRef::as_ref).collect();
    let publishers: Vec<&Session> = people.iter().filter_map(|one| one.published.as_deref()).collect();
    publishers.iter().for_each(|publisher| publisher.send(false));

    let other = janus_meeting(number).await;
    let (mut of_salon, mut of_janus) = (Vec::new(), Vec::new());
    for _ in 0..windows {
        of_salon.push(window(&server, &publishers, &watched).await);
        if let Some((server, publishers, viewers)) = &other {
            let (publishers, viewers): (Vec<_>, Vec<_>) = (publishers.iter().collect(), viewers.iter().collect());
            of_janus.push(window(server, &publishers, &viewers).await);
        }
    }
    let figures = |windows: &[Seen]| {
        json!({"us_per_packet": median(windows, |it| it.window.server.unwrap().us_per_packet),
            "processors": median(windows, |it| it.window.server.unwrap().processors),
            "latency_ms_p50": median(windows, |it| it.window.latency_ms.p50),
            "lost": windows.iter().map(|it| it.window.lost).sum::<u64>(), "delivered": median(windows, |it| it.share), "raw": raw(windows)})
    };
    let salon = figures(&of_salon);
    let janus = (!of_janus.is_empty()).then(|| figures(&of_janus));
    let ratio =
        janus.as_ref().and_then(|janus| Some(salon["us_per_packet"].as_f64()? / janus["us_per_packet"].as_f64()?));
    json!({"participants": number, "edge": edge, "ratio_us_per_packet": ratio, "salon": salon, "janus": janus})
}

async fn janus_meeting(number: usize) -> Option<(Running, Vec<Session>, Vec<Session>)> {
    let server = servers::janus().await?;
    let door = janus::Server::new(&server.url, servers::outward()).await.unwrap();
    let (mut feeds, mut publishers, mut viewers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..number {
        let opened = door.publish(1).await.unwrap();
        feeds.push(opened.feed);
        publishers.push(opened.session);
        publishers[publishers.len() - 1].connected(CONNECT).await.unwrap();
    }
    for feed in feeds {
        for _ in 1..number {
            viewers.push(door.watch(1, feed).await.unwrap().session);
        }
    }
    for viewer in &viewers {
        viewer.connected(CONNECT).await.unwrap();
    }
    publishers.iter().for_each(|publisher| publisher.send(false));
    Some((server, publishers, viewers))
}

fn plot(target: &Path, report: &Value) {
    let points = |of: &dyn Fn(&Value) -> Option<f64>| -> Vec<(f64, f64)> {
        let rows = report["audiences"].as_array().unwrap().iter();
        rows.filter_map(|row| Some((row["viewers"].as_f64()?, of(row)?))).collect()
    };
    let salon = points(&|row| row["salon"]["us_per_packet"].as_f64());
    let janus = points(&|row| row["janus"]["us_per_packet"].as_f64());
    let floor = points(&|_| report["floor_us_per_packet"].as_f64());
    let lines = vec![("Salon", salon, BLUE), ("Janus", janus, RED), ("AES-GCM and send", floor, GREEN)];
    figures::plot(target, "Processor time for each forwarded packet", ["viewers", "µs"], lines);
}
