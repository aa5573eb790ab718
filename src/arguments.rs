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
  salon recover recordings                  finalise recordings of a server that is gone";

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
        .subcommand(
            Command::new("recover").about("Finalise the interrupted recordings in a folder, in place").arg(folder),
        )
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
        _ => Task::Serve,
    };
    // Global flags are found wherever they were written, before the command or behind it.
    let given = |name: &str| matches.get_one::<String>(name).cloned();
    let flags = KEYS.iter().filter_map(|key| Some((key.name.to_owned(), given(key.name)?))).collect();
    let usual = || Some(PathBuf::from(USUAL_FILE)).filter(|file| file.exists());
    let config = matches.get_one::<PathBuf>("config").cloned().or_else(usual);
    Arguments { task, config, flags }
}
