//! The sandbox process's log: to a donated file, or nowhere. What is in it can be changed while the
//! sandbox runs.

use control::boot::DebugSpec;
use control::debug::Logging;
use control::message::{Failure, FailureKind};
use parking_lot::{Mutex, RwLock};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

/// The call log's target.
const STRACE: &str = "strace";

/// The one log of this process, once there is one.
static LOG: Mutex<Option<Log>> = Mutex::new(None);

struct Log {
    file: Writer,
    filter: reload::Handle<Targets, Registry>,
    chosen: Chosen,
}

/// What is to be in it.
#[derive(Clone)]
struct Chosen {
    level: LevelFilter,
    filter: Targets,
    strace: bool,
}

impl Chosen {
    fn targets(&self) -> Targets {
        let mut targets = Targets::new().with_default(self.level);
        if self.strace {
            // Asked for by itself, whatever the level is.
            targets = targets.with_target(STRACE, LevelFilter::DEBUG.max(self.level));
        }
        targets.with_targets(&self.filter)
    }
}

/// Where lines go. The file may be exchanged.
#[derive(Clone)]
struct Writer(Arc<RwLock<Arc<File>>>);

impl MakeWriter<'_> for Writer {
    type Writer = Arc<File>;

    fn make_writer(&self) -> Arc<File> {
        self.0.read().clone()
    }
}

/// Sends this process's records to `file`. Without one there is no subscriber at all, and a
/// record costs one comparison.
pub(crate) fn start(debug: &DebugSpec, file: Option<OwnedFd>) {
    let Some(file) = file else { return };
    let level = if debug.verbose || debug.strace {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    let chosen = Chosen {
        level,
        filter: Targets::new(),
        strace: debug.strace,
    };
    let mut log = LOG.lock();
    // A second call (in tests) keeps the first subscriber.
    if log.is_none() {
        *log = subscribe(file, debug.json, chosen);
    }
}

fn subscribe(file: OwnedFd, json: bool, chosen: Chosen) -> Option<Log> {
    let file = Writer(Arc::new(RwLock::new(Arc::new(File::from(file)))));
    let (filter, handle) = reload::Layer::new(chosen.targets());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(file.clone());
    let lines = match json {
        true => lines.json().boxed(),
        false => lines.boxed(),
    };
    let subscriber = Registry::default().with(filter).with(lines);
    tracing::subscriber::set_global_default(subscriber).ok()?;
    Some(Log {
        file,
        filter: handle,
        chosen,
    })
}

/// Changes what is logged, and where to when a file comes along.
pub(crate) fn change(wanted: &Logging, file: Option<OwnedFd>) -> Result<(), Failure> {
    let invalid = |text: String| Failure::new(FailureKind::Invalid, text);
    let level = wanted.level.as_ref().map(|text| {
        text.parse::<LevelFilter>().map_err(|_| {
            invalid(format!(
                "`{text}` is no log level; use off, error, warn, info or debug"
            ))
        })
    });
    let level = level.transpose()?;
    let filter = wanted.filter.as_ref().map(|text| {
        text.parse::<Targets>().map_err(|e| {
            invalid(format!(
                "`{text}` is no log filter ({e}); write TARGET=LEVEL,… such as task=debug,mm=off"
            ))
        })
    });
    let filter = filter.transpose()?;
    let mut log = LOG.lock();
    let mut chosen = match &*log {
        Some(log) => log.chosen.clone(),
        None => Chosen {
            level: LevelFilter::INFO,
            filter: Targets::new(),
            strace: false,
        },
    };
    chosen.level = level.unwrap_or(chosen.level);
    chosen.filter = filter.unwrap_or(chosen.filter);
    chosen.strace = wanted.strace.unwrap_or(chosen.strace);
    match (&mut *log, file) {
        (Some(log), file) => {
            log.filter
                .reload(chosen.targets())
                .map_err(|e| Failure::new(FailureKind::Internal, e.to_string()))?;
            log.chosen = chosen;
            if let Some(file) = file {
                *log.file.0.write() = Arc::new(File::from(file));
            }
            Ok(())
        }
        (none, Some(file)) => {
            *none = subscribe(file, wanted.json, chosen);
            match none {
                Some(_) => Ok(()),
                None => Err(Failure::new(
                    FailureKind::Internal,
                    "the log cannot be begun",
                )),
            }
        }
        (None, None) => Err(Failure::new(
            FailureKind::State,
            "this sandbox was started without a log; give --debug-log DIR to have one from now on",
        )),
    }
}

/// Says something on standard error, which is the launcher's to read. It may be gone, and nobody is
/// told then; `eprintln!` would panic.
macro_rules! tell_launcher {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _unheard = writeln!(std::io::stderr(), $($words)*);
    }};
}
pub(crate) use tell_launcher;
