//! The command line: what can be asked of the program, and its exit codes: 0 fine, 1 error, 2 bad
//! usage. Results go to standard output, everything else to standard error.
//!
//! Not here: what a node does (`node`).

mod client;
mod cluster;
mod descriptors;
mod live;
mod serve;
mod table;
mod tree;

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigErrors, FlagValue, default_file};

/// Low-latency live streaming: WHIP, SRT and RTMP in, WHEP and LL-HLS out.
#[derive(Parser, Debug)]
#[command(name = "headwater", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a node (the default)
    Serve(ServeArgs),
    /// Run a node with a built-in test picture, and print the address of its page
    Demo(ServeArgs),
    /// Check a configuration file: every error with its key and line
    Check {
        /// The file
        file: PathBuf,
    },
    /// Look at configurations
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Begin, grow, watch and mend a cluster
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// List the streams of a running node, or show one with its sessions
    Streams {
        /// A stream's name
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        find: FindArgs,
    },
    /// End a session of a running node
    Kick {
        /// The session's id
        session: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        find: FindArgs,
    },
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Print the default configuration with every key explained
    Default,
}

/// How a node is run.
#[derive(Args, Debug, Default)]
struct ServeArgs {
    /// Configuration file (TOML)
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder for the node's state
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// IP address of all listeners whose own is not configured
    #[arg(long, value_name = "IP")]
    bind: Option<String>,
    /// What people call the node
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What the node does in its cluster: origin or relay
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Where the node stands
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// Cluster address of any origin of the cluster to join; needed once
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<String>,
    /// Token to join with, as `headwater cluster join-token` prints it (or HEADWATER_JOIN_TOKEN)
    #[arg(long, value_name = "TOKEN")]
    join_token: Option<String>,
    /// File that has the token
    #[arg(long, value_name = "FILE", conflicts_with = "join_token")]
    join_token_file: Option<String>,
    /// How log lines look: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl ServeArgs {
    fn flags(&self) -> Vec<FlagValue> {
        let mut flags = Vec::new();
        let mut add = |flag, section, key, value: &Option<String>| {
            flags.extend(value.clone().map(|value| FlagValue { flag, section, key, value }));
        };
        add("--data", "", "data", &self.data);
        add("--bind", "", "bind", &self.bind);
        add("--name", "cluster", "name", &self.name);
        add("--role", "cluster", "role", &self.role);
        add("--region", "cluster", "region", &self.region);
        add("--join", "cluster", "join", &self.join);
        add("--join-token", "cluster", "join_token", &self.join_token);
        add("--join-token-file", "cluster", "join_token_file", &self.join_token_file);
        add("--log-format", "log", "format", &self.log_format);
        flags
    }

    fn config(&self) -> anyhow::Result<Config> {
        Config::load(self.config.as_deref(), &self.flags())
    }
}

/// How a running node is found.
#[derive(Args, Debug, Default)]
struct FindArgs {
    /// URL of the node's API, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// The node's configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's data folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    // clap prints usage errors itself and ends with 2.
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<ConfigErrors>() {
                // Each begins with its file and line, as editors and scripts know it.
                Some(errors) => complain(&errors.to_string()),
                None => complain(&format!("error: {error:#}")),
            }
            ExitCode::FAILURE
        }
    }
}

/// Writes a result to standard output. A reader that has seen enough is no error.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes a line to standard error, where there is one: nothing more can be done without.
fn complain(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::serve(args.config()?, false),
        Command::Demo(args) => serve::serve(args.config()?, true),
        Command::Check { file } => {
            let config = Config::load(Some(&file), &[])?;
            for warning in config.warnings() {
                complain(&format!("warning: {warning}"));
            }
            say(&format!("{} is fine\n", file.display()))
        }
        Command::Config(ConfigCommand::Default) => say(&default_file()),
        Command::Cluster(command) => cluster::run(command),
        Command::Streams { name, json, find } => live::streams(&find, name.as_deref(), json),
        Command::Kick { session, json, find } => live::kick(&find, &session, json),
    }
}
