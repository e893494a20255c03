//! What can be said on the command line.

use crate::Build;
use clap::error::ErrorKind;
use clap::{
    ArgAction, ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Runs containers and commands on a Linux kernel in user space.
#[derive(Debug, Parser)]
#[command(
    name = "ringfence",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// Directory that holds the state of containers [default: /run/ringfence; rootless:
    /// $XDG_RUNTIME_DIR/ringfence]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// How guest code is run: a name that `ringfence platforms` shows, or `auto` for the fastest
    /// that is ready
    #[arg(long, global = true, value_name = "NAME", default_value = "auto")]
    pub(crate) platform: String,

    /// Where the platform's device is, for those that have one [default: its usual path]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) platform_device: Option<PathBuf>,

    /// File that warnings and errors are appended to
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,

    /// Form of the log
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Log more
    #[arg(long, global = true)]
    pub(crate) debug: bool,

    /// Directory for logs of each process, the sandbox's among them
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) debug_log: Option<PathBuf>,

    /// Log each system call of the guest (into --debug-log's directory); `debug` takes `off`, too
    #[arg(
        long, global = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "on", value_name = "SWITCH"
    )]
    pub(crate) strace: Option<Switch>,

    /// Let the sandbox be profiled (`debug --profile-…`): more host calls are open to it
    #[arg(long, global = true)]
    pub(crate) profile: bool,

    /// Make namespaces without privileges; always so for an ordinary user
    #[arg(
        long, global = true, num_args = 0..=1, require_equals = true,
        default_value = "auto", default_missing_value = "true", value_name = "WHEN"
    )]
    pub(crate) rootless: Rootless,

    /// Network of the container; only `none` (loopback) is there so far
    #[arg(long, global = true, value_enum, default_value_t = Network::None)]
    pub(crate) network: Network,

    /// What stands above the container's files [default: none; for `do`: memory]
    #[arg(long, global = true, value_enum)]
    pub(crate) overlay: Option<Overlay>,

    /// Take config.json's cgroupsPath for systemd's slice:prefix:name; the group is made without
    /// asking systemd
    #[arg(long, global = true)]
    pub(crate) systemd_cgroup: bool,

    /// Accepted for runc's callers; there is no CRIU in it
    #[arg(long, global = true, value_name = "PATH", hide = true)]
    pub(crate) criu: Option<PathBuf>,

    /// Accepted for other runtimes' callers: `debug` is as --debug, others are the default. The
    /// command `debug` gives it to the sandbox
    #[arg(long, global = true, value_name = "LEVEL", hide = true)]
    pub(crate) log_level: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rootless {
    Auto,
    True,
    False,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    None,
    Sandbox,
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overlay {
    /// Writes go through to the files
    None,
    /// A throw-away layer in memory
    Memory,
    /// A throw-away layer in a nameless file of the bundle
    #[value(name = "self")]
    SelfBacked,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a bundle's container: create, start, wait, delete
    Run(Run),
    /// Run a command on a tree of this machine, below a throw-away overlay
    Do(Do),
    /// Create a container; its program waits for `start`
    Create(Create),
    /// Start a created container's program
    Start(Id),
    /// Run a further program in a running container
    Exec(Exec),
    /// Print a container's state as JSON
    State(Id),
    /// Stop all of a container's processes where they are, until `resume`
    Pause(Id),
    /// Let a paused container's processes go on
    Resume(Id),
    /// Change a container's limits; what is not named stays
    Update(Update),
    /// Write a container's state down: not supported yet
    Checkpoint(Image),
    /// Go on from a checkpoint: not supported yet
    Restore(Image),
    /// Print what of the OCI runtime specification is supported, as JSON
    Features,
    /// Send a signal to a container
    Kill(Kill),
    /// Remove a stopped container
    Delete(Delete),
    /// List containers
    List(List),
    /// List a container's processes
    Ps(Ps),
    /// Print what a container uses, as JSON
    Events(Events),
    /// Wait for a container's end; its exit status is this command's
    Wait(Id),
    /// Write an example config.json
    Spec(Spec),
    /// Show the platforms in this binary and whether they work here
    Platforms,
    /// Show help on a command, or on `syscalls`
    Help(Help),
    /// Look into a running sandbox: its threads' stacks, its log, a trace
    Debug(Debug),
    /// Print what a container's tasks are doing
    #[command(hide = true)]
    Dump(Id),
}

#[derive(Debug, Args)]
pub(crate) struct Id {
    /// The container's id
    pub(crate) id: String,
}

/// A container, and options that other runtimes have for it.
#[derive(Debug, Args)]
pub(crate) struct Image {
    /// The container's id
    pub(crate) id: String,
    /// Accepted for runc's callers
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub(crate) rest: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The container's id: letters, digits and `_+-.`
    pub(crate) id: String,
    /// Directory that holds config.json
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Unix socket that is sent the terminal's master
    #[arg(long, value_name = "PATH")]
    pub(crate) console_socket: Option<PathBuf>,
    /// File that the process id is written to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// How many further descriptors, from 3 on, are handed to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Accepted for runc's callers; the sandbox always pivots, out of an empty root
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Accepted for runc's callers; the container has no host keyring in any case
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Come back once the container runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Accepted for runc's callers; nobody is reparented to this process
    #[arg(long)]
    pub(crate) no_subreaper: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Do {
    /// The tree that the command sees as /
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Where it starts [default: this directory, if it is there]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Memory it may use, in bytes, or with k, m or g behind the number [default: what there is]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<u64>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The container's id
    pub(crate) id: String,
    /// Give it a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Come back once it runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Unix socket that is sent the terminal's master
    #[arg(long, value_name = "PATH")]
    pub(crate) console_socket: Option<PathBuf>,
    /// File that the number of its process on the host is written to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// File with the spec's `process` as JSON; other options on what to run then mean nothing
    #[arg(long, short, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Where it starts [default: as the container's own program]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Variable of its environment, beside those of the container's own program; any number
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// As whom, by numbers [default: as the container's own program]
    #[arg(long, short, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Further groups, by number
    #[arg(long, short = 'g', value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// Further capabilities
    #[arg(long, short, value_name = "NAME")]
    pub(crate) cap: Vec<String>,
    /// It and its children never gain privileges by execve(2)
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// How many further descriptors, from 3 on, are handed to it
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Which of the container's control groups it is in: there is one, `/`
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Vec<String>,
    /// Also when the container is paused: it runs once that is resumed
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Accepted for runc's callers; nobody is reparented to this process
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// The container's id
    pub(crate) id: String,
    /// By name, with or without SIG, or by number
    #[arg(default_value = "SIGTERM")]
    pub(crate) signal: String,
    /// Signal all processes in it
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Signal the process of this number, as `ringfence ps` shows it
    #[arg(long, short, value_name = "PID", conflicts_with = "all")]
    pub(crate) pid: Option<i32>,
}

/// -1 takes a limit away, 0 leaves it.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// The container's id
    pub(crate) id: String,
    /// File with linux.resources of the runtime specification as JSON, `-` for standard input;
    /// other options go before what it says
    #[arg(long, short, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Memory, in bytes, or with k, m or g behind the number
    #[arg(long, value_name = "SIZE", value_parser = limit, allow_negative_numbers = true)]
    pub(crate) memory: Option<i64>,
    /// Memory that is left to it when the host is short of it
    #[arg(long, value_name = "SIZE", value_parser = limit, allow_negative_numbers = true)]
    pub(crate) memory_reservation: Option<i64>,
    /// Memory and swap together
    #[arg(long, value_name = "SIZE", value_parser = limit, allow_negative_numbers = true)]
    pub(crate) memory_swap: Option<i64>,
    /// Microseconds of CPU time in each period
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Microseconds of a period
    #[arg(long, value_name = "N")]
    pub(crate) cpu_period: Option<u64>,
    /// Weight against other groups, 1024 being an ordinary one
    #[arg(long, visible_alias = "cpu-shares", value_name = "N")]
    pub(crate) cpu_share: Option<u64>,
    /// CPUs, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Tasks at once
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Weight on block devices against other groups, 10 to 1000
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The container's id
    pub(crate) id: String,
    /// Kill it first if it runs; no error if it does not exist
    #[arg(long, short)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only ids
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Form
    #[arg(long, short, value_enum, default_value_t = ListFormat::Table)]
    pub(crate) format: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// The container's id
    pub(crate) id: String,
    /// Form
    #[arg(long, short, value_enum, default_value_t = PsFormat::Table)]
    pub(crate) format: PsFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PsFormat {
    /// For people
    Table,
    /// The numbers that the host has for it, as callers of runc read them: the sandbox process
    Json,
    /// Everything, numbered as inside
    Full,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The container's id
    pub(crate) id: String,
    /// Once, and not as a stream
    #[arg(long)]
    pub(crate) stats: bool,
    /// Seconds between two
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) interval: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Spec {
    /// Directory that config.json is written to
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
}

/// With none of its options it prints stacks.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("timed"), group = ArgGroup::new("profiled"), after_help = "\
--log-level LEVEL (off, error, warn, info, debug) and --strace=on or --strace=off change what the \
sandbox logs from now on, and --debug-log DIR where to.")]
pub(crate) struct Debug {
    /// The container's id
    pub(crate) id: String,
    /// Print what each thread of the sandbox's kernel and each task of the container does
    #[arg(long)]
    pub(crate) stacks: bool,
    /// Print how much there is of what the sandbox keeps, as JSON
    #[arg(long)]
    pub(crate) counters: bool,
    /// Log levels by target, such as `task=debug,mm=off`
    #[arg(long, value_name = "TARGET=LEVEL,…")]
    pub(crate) log_filter: Option<String>,
    /// File for a trace of system calls, faults, sleeps and wake-ups, which Perfetto opens
    #[arg(long, value_name = "FILE", requires = "duration", group = "timed")]
    pub(crate) trace: Option<PathBuf>,
    /// File for a profile, in pprof's format, of the CPU time of the sandbox's kernel; the sandbox
    /// must have been created with --profile
    #[arg(long, value_name = "FILE", requires = "duration", groups = ["timed", "profiled"])]
    pub(crate) profile_cpu: Option<PathBuf>,
    /// The same of the memory that it allocates
    #[arg(long, value_name = "FILE", requires = "duration", groups = ["timed", "profiled"])]
    pub(crate) profile_heap: Option<PathBuf>,
    /// The same of the time that tasks sleep
    #[arg(long, value_name = "FILE", requires = "duration", groups = ["timed", "profiled"])]
    pub(crate) profile_block: Option<PathBuf>,
    /// The same of the time that is spent waiting for locks
    #[arg(long, value_name = "FILE", requires = "duration", groups = ["timed", "profiled"])]
    pub(crate) profile_mutex: Option<PathBuf>,
    /// Draw a flame graph of the profile, too [default: its FILE with .svg behind]
    #[arg(long, value_name = "FILE", requires = "profiled", num_args = 0..=1, require_equals = true)]
    pub(crate) svg: Option<Option<PathBuf>>,
    /// How many seconds the trace or the profile takes
    #[arg(long, value_name = "SECONDS", requires = "timed", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,
}

/// A time above zero, at most a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|s| *s > 0.0 && *s <= 86_400.0);
    let bad = || "give a number of seconds above zero, at most 86400".to_owned();
    Ok(Duration::from_secs_f64(seconds.ok_or_else(bad)?))
}

#[derive(Debug, Args)]
pub(crate) struct Help {
    /// A command, or `syscalls`
    #[arg(action = ArgAction::Append)]
    pub(crate) topic: Vec<String>,
}

/// A number of bytes: `65536`, `64k`, `512m`, `2G`, `1GiB`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("`{unit}` is no unit; use k, m, g or t")),
    };
    let bytes = number.parse::<u64>().ok();
    bytes
        .and_then(|n| n.checked_mul(1 << shift))
        .filter(|n| *n > 0)
        .ok_or_else(|| "give a number of bytes above zero, such as 512m".to_owned())
}

/// The same, or -1 for no limit and 0 for leaving it as it is.
fn limit(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        "0" => Ok(0),
        text => i64::try_from(size(text)?).map_err(|_| "that is too much".to_owned()),
    }
}

/// The command line's description.
pub(crate) fn description(build: &Build) -> clap::Command {
    // Docker's daemon reads these lines as it does runc's.
    let lines = format!("version {}\nspec: {}", build.version, launcher::OCI_VERSION);
    Cli::command().version(lines)
}

/// Reads the command line; help and version come back as errors that print themselves.
pub(crate) fn parse(build: &Build, arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = description(build);
    let matches = command.try_get_matches_from_mut(arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    if !matches!(cli.command, Command::Debug(_)) {
        let problem = match (cli.global.strace, &cli.global.debug_log) {
            (Some(Switch::On), None) => "--strace writes into --debug-log's directory: give it",
            (Some(Switch::Off), _) => "--strace=off is for the command `debug`",
            _ => return Ok(cli),
        };
        return Err(command.error(ErrorKind::MissingRequiredArgument, problem));
    }
    Ok(cli)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&Build::default(), &words)
    }

    #[test]
    fn the_description_is_consistent() {
        description(&Build::default()).debug_assert();
    }

    #[test]
    fn options_stand_before_or_after_the_id() {
        for line in [
            "ringfence --root /s --debug run --bundle /b --pid-file /p c1",
            "ringfence --root=/s run c1 -b /b --debug --pid-file=/p",
        ] {
            let cli = read(line).unwrap();
            assert_eq!(cli.root, Some("/s".into()));
            assert!(cli.global.debug);
            let Command::Run(run) = cli.command else {
                panic!("{line}")
            };
            assert_eq!(
                (run.create.id.as_str(), run.create.bundle),
                ("c1", "/b".into())
            );
            assert_eq!(run.create.pid_file, Some("/p".into()));
        }
    }

    #[test]
    fn what_callers_of_runc_pass_is_accepted() {
        for line in [
            "runc --root /s --log /l --log-format json --systemd-cgroup create --bundle /b \
             --pid-file /p --no-pivot --no-new-keyring --preserve-fds 0 --console-socket /c id",
            "runc --rootless=true --criu /x --log-level debug run id",
            "runc --rootless run id",
            "runc kill --all id 9",
            "runc delete --force id",
            "runc list -q -f json",
            "runc --root /s update --resources - id",
            "runc update --memory 64m --memory-swap -1 --pids-limit=-1 --cpu-share 512 id",
            "runc update id --cpu-quota -1 --cpu-period 100000 --cpuset-cpus 0-1 -r /f",
        ] {
            let words: Vec<OsString> = line.split_ascii_whitespace().map(OsString::from).collect();
            parse(&Build::default(), &words).unwrap();
        }
    }

    #[test]
    fn strace_is_a_switch_that_only_debug_turns_off() {
        let on = read("ringfence --strace --debug-log /d do true").unwrap();
        assert_eq!(on.global.strace, Some(Switch::On));
        let off = read("ringfence debug --strace=off --log-level warn c").unwrap();
        assert_eq!(off.global.strace, Some(Switch::Off));
        for line in [
            "ringfence --strace do true",
            "ringfence --strace=off --debug-log /d do true",
            "ringfence debug --trace /t c",
            "ringfence debug --trace /t --duration 0 c",
            "ringfence debug --duration 1 c",
            "ringfence debug --profile-cpu /t c",
            "ringfence debug --profile-cpu /t --profile-heap /h --duration 1 c",
            "ringfence debug --trace /t --profile-cpu /p --duration 1 c",
            "ringfence debug --trace /t --svg --duration 1 c",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_flame_graph_may_have_a_name() {
        for (line, svg) in [
            ("--profile-cpu /p --duration 1 c", None),
            ("--profile-heap /p --svg --duration 1 c", Some(None)),
            (
                "--profile-mutex /p --svg=/s --duration 1 c",
                Some(Some("/s".into())),
            ),
            ("--duration 1 --profile-block /p --svg c", Some(None)),
        ] {
            let Command::Debug(debug) = read(&format!("ringfence debug {line}")).unwrap().command
            else {
                panic!("{line}")
            };
            assert_eq!((debug.id.as_str(), debug.svg), ("c", svg), "{line}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64k"), Ok(64 << 10));
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("2G"), Ok(2 << 30));
        for bad in ["", "0", "m", "-1", "1x", "1.5g", "99999999999t"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        let cli = read("ringfence do --memory 64m -- ls").unwrap();
        let Command::Do(command) = cli.command else {
            panic!()
        };
        assert_eq!(command.memory, Some(64 << 20));
    }

    #[test]
    fn exec_takes_options_before_and_after_the_id() {
        for line in [
            "runc exec -t -e A=b --user 5:6 -d c sh -c -d",
            "runc exec c -t -e A=b --user 5:6 --detach sh -c -d",
            "runc exec --tty c -d --env=A=b -u 5:6 -- sh -c -d",
        ] {
            let Command::Exec(exec) = read(line).unwrap().command else {
                panic!("{line}")
            };
            assert!(exec.tty && exec.detach, "{line}");
            assert_eq!((exec.id.as_str(), exec.env), ("c", vec!["A=b".to_owned()]));
            assert_eq!(exec.user.as_deref(), Some("5:6"));
            assert_eq!(exec.command, ["sh", "-c", "-d"], "{line}");
        }
        let shim = "runc --root /r exec --process /p --console-socket /s --detach --pid-file /f c";
        assert!(read(shim).is_ok());
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        let cli = read("ringfence --platform x do --root /t ls -l --root / -- x").unwrap();
        let Command::Do(command) = cli.command else {
            panic!()
        };
        assert_eq!(command.root, PathBuf::from("/t"));
        assert_eq!(command.command, ["ls", "-l", "--root", "/", "--", "x"]);
        let cli = read("ringfence do -- ls -l").unwrap();
        let Command::Do(command) = cli.command else {
            panic!()
        };
        assert_eq!(command.command, ["ls", "-l"]);
    }
}
