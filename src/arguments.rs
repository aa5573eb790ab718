//! The command line. Flags are made from [`KEYS`], so that none can be forgotten.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use salon::config::{KEYS, flag_of};

/// Read if it is there and no other file is named.
const USUAL_FILE: &str = "salon.toml";

const ABOUT: &str = "A room media server: people publish, watch, talk and record, from a browser.";

const MORE: &str = "\
Without any setting it serves this machine on http://127.0.0.1:8080 and the network on
https://<address>:4443 with a self-signed certificate, and writes to ./recordings and ./data.

Each setting is a flag, an environment variable (--http-listen is SALON_HTTP_LISTEN) and a key of the
settings file (http_listen); flags come before the environment, and that before the file.
config.example.toml describes them all.

Examples:
  salon                                     serve with the defaults
  salon doctor                              what is missing here, and how to install it
  salon --tls-cert fullchain.pem --tls-key privkey.pem
  SALON_API_SECRET=… salon --config /etc/salon.toml
  salon recover recordings                  finalise recordings of a server that is gone
  salon record a.mp4 b.webm -o both.mp4     compose files and cameras into one file, without a server";

/// What was asked for.
pub struct Arguments {
    /// The subcommand.
    pub task: Task,
    /// The settings file.
    pub config: Option<PathBuf>,
    /// Settings given as flags, by key.
    pub flags: BTreeMap<String, String>,
}

/// A subcommand.
pub enum Task {
    /// `serve`, or none.
    Serve,
    /// `doctor`.
    Doctor {
        /// `--json`
        json: bool,
    },
    /// `recover DIR`.
    Recover {
        /// The folder.
        folder: PathBuf,
    },
    /// `record URI… -o FILE`.
    Record(RecordArguments),
}

/// What `record` is to do, as it was typed.
pub struct RecordArguments {
    /// Files and addresses, in the order of their tiles.
    pub inputs: Vec<String>,
    /// Names for the tiles, in the same order; those that are missing are made from the inputs.
    pub names: Vec<String>,
    /// The file to write.
    pub output: PathBuf,
    /// Take the place of a file that is there.
    pub force: bool,
    /// A layout's name.
    pub layout: String,
    /// `WIDTHxHEIGHT`.
    pub size: (u32, u32),
    /// Frames a second.
    pub fps: u32,
    /// Draw names.
    pub labels: bool,
    /// Draw this at the top.
    pub title: Option<String>,
    /// Seconds; no more is recorded.
    pub max_s: Option<u64>,
    /// In the encoder's own words.
    pub speed: Option<String>,
    /// Of the picture, in kbit/s.
    pub bitrate_kbps: Option<u32>,
}

/// Reads the command line; ends the program for `--help`, `--version` and what cannot be read.
pub fn parse() -> Arguments {
    read(&command().get_matches())
}

fn command() -> Command {
    let folder = Arg::new("folder").value_name("DIR").required(true).value_parser(value_parser!(PathBuf));
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the findings as JSON");
    Command::new("salon")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(MORE)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .env("SALON_CONFIG")
                .value_parser(value_parser!(PathBuf))
                .global(true)
                .help("The settings file [default: salon.toml, if it is there]"),
        )
        .args(KEYS.iter().map(setting))
        .subcommand(Command::new("serve").about("Serve (what salon does without a command)"))
        .subcommand(Command::new("doctor").about("Say what is missing on this machine, and how to mend it").arg(json))
        .subcommand(record())
        .subcommand(
            Command::new("recover").about("Finalise the interrupted recordings in a folder, in place").arg(folder),
        )
}

fn record() -> Command {
    let number = |name: &'static str, value: &'static str| {
        Arg::new(name).long(name).value_name(value).value_parser(value_parser!(u32).range(1..))
    };
    Command::new("record")
        .about("Compose files and cameras into one MP4, as fast as this machine can; Ctrl-C ends the file properly")
        .arg(
            Arg::new("input").value_name("URI").required(true).num_args(1..).help(
                "A file, or a file://, http(s)://, rtsp(s):// or v4l2:// address; what has no picture is only heard",
            ),
        )
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The MP4 to write"),
        )
        .arg(
            Arg::new("force")
                .short('f')
                .long("force")
                .action(ArgAction::SetTrue)
                .help("Replace the file if it is there"),
        )
        .arg(Arg::new("layout").long("layout").value_name("NAME").default_value("grid").help(
            "grid, speaker, presentation, pip, audio-only, or a file's in pipelines/layouts; the first picture is the \
             large one",
        ))
        .arg(
            Arg::new("size")
                .long("size")
                .value_name("WxH")
                .default_value("1280x720")
                .value_parser(size)
                .help("Of the picture"),
        )
        .arg(number("fps", "N").default_value("25").help("Frames a second"))
        .arg(
            Arg::new("name")
                .long("name")
                .value_name("NAME")
                .action(ArgAction::Append)
                .help("What stands on a tile, in the order of the inputs [default: the file's name]"),
        )
        .arg(Arg::new("no-labels").long("no-labels").action(ArgAction::SetTrue).help("Draw no names"))
        .arg(Arg::new("title").long("title").value_name("TEXT").help("Draw this at the top"))
        .arg(
            Arg::new("max-s")
                .long("max-s")
                .value_name("S")
                .value_parser(value_parser!(u64).range(1..))
                .help("End after so many seconds"),
        )
        .arg(Arg::new("speed").long("speed").value_name("PRESET").help("Of the encoder, e.g. veryfast or slow"))
        .arg(number("bitrate", "KBPS").help("Of the picture [default: from its size]"))
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once(['x', '×']);
    let sides = sides.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    sides.ok_or_else(|| "a size is written as 1280x720".into())
}

/// A flag may have an empty value (`--https-listen=` is off), so no parser of clap's is in the way.
fn setting(key: &'static salon::config::Key) -> Arg {
    // clap wants names that live as long as the program, which is what these do.
    let flag: &'static str = flag_of(key.name).leak();
    Arg::new(key.name)
        .long(flag.trim_start_matches('-'))
        .value_name(key.value)
        .help(key.help)
        .help_heading("Settings")
        .global(true)
}

fn read(matches: &ArgMatches) -> Arguments {
    let task = match matches.subcommand() {
        Some(("doctor", matches)) => Task::Doctor { json: matches.get_flag("json") },
        Some(("recover", matches)) => match matches.get_one::<PathBuf>("folder") {
            Some(folder) => Task::Recover { folder: folder.clone() },
            None => unreachable!("clap asks for it"),
        },
        Some(("record", matches)) => Task::Record(read_record(matches)),
        _ => Task::Serve,
    };
    // Global flags are found wherever they were written, before the command or behind it.
    let given = |name: &str| matches.get_one::<String>(name).cloned();
    let flags = KEYS.iter().filter_map(|key| Some((key.name.to_owned(), given(key.name)?))).collect();
    let usual = || Some(PathBuf::from(USUAL_FILE)).filter(|file| file.exists());
    let config = matches.get_one::<PathBuf>("config").cloned().or_else(usual);
    Arguments { task, config, flags }
}

fn read_record(matches: &ArgMatches) -> RecordArguments {
    let texts = |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect();
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    RecordArguments {
        inputs: texts("input"),
        names: texts("name"),
        output: matches.get_one::<PathBuf>("output").cloned().unwrap_or_default(),
        force: matches.get_flag("force"),
        layout: text("layout").unwrap_or_default(),
        size: matches.get_one("size").copied().unwrap_or_default(),
        fps: matches.get_one("fps").copied().unwrap_or_default(),
        labels: !matches.get_flag("no-labels"),
        title: text("title"),
        max_s: matches.get_one("max-s").copied(),
        speed: text("speed"),
        bitrate_kbps: matches.get_one("bitrate").copied(),
    }
}
