//! The launcher's own log: warnings and errors for a person on standard error, and in the form
//! that containerd and others read for `--log`.

use crate::args::{Global, LogFormat};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Where lines go.
#[derive(Clone)]
pub(crate) struct Log(Arc<Inner>);

struct Inner {
    level: Level,
    file: Option<File>,
    json: bool,
    /// With `--debug-log`.
    debug_file: Option<File>,
    verbose: bool,
}

/// Opens the files and begins to log.
pub(crate) fn start(global: &Global) -> Result<Log, String> {
    let verbose = global.debug || global.log_level.as_deref() == Some("debug");
    let append = |path: &std::path::Path| {
        File::options()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|e| {
                format!(
                    "cannot write the log {}: {e}; choose another",
                    path.display()
                )
            })
    };
    let debug_file = match &global.debug_log {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(|e| {
                format!(
                    "cannot make {}: {e}; choose another with --debug-log",
                    dir.display()
                )
            })?;
            Some(append(&dir.join("launcher.log"))?)
        }
        None => None,
    };
    let log = Log(Arc::new(Inner {
        level: if verbose || debug_file.is_some() {
            Level::DEBUG
        } else {
            Level::WARN
        },
        file: global.log.as_deref().map(append).transpose()?,
        json: global.log_format == LogFormat::Json,
        debug_file,
        verbose,
    }));
    // The first one stays; there is only one in a process but for tests.
    let _first = tracing::subscriber::set_global_default(Lines(log.clone()));
    Ok(log)
}

impl Log {
    /// The reason why the command failed.
    pub(crate) fn error(&self, text: &str) {
        self.put(Level::ERROR, text);
    }

    fn put(&self, level: Level, text: &str) {
        let inner = &self.0;
        let word = level
            .as_str()
            .to_ascii_lowercase()
            .replace("warn", "warning");
        let time = launcher::state::rfc3339(launcher::state::now());
        // Trouble with a log is no reason to fail, and there is nowhere to tell of it.
        if let Some(mut file) = inner.debug_file.as_ref() {
            let _lost = writeln!(file, "{time} {word}: {text}");
        }
        let shown = level <= Level::WARN || inner.verbose;
        if let Some(mut file) = inner.file.as_ref().filter(|_| shown) {
            let _lost = if inner.json {
                let line = serde_json::json!({ "level": word, "msg": text, "time": time });
                writeln!(file, "{line}")
            } else {
                writeln!(file, "time=\"{time}\" level={word} msg={text:?}")
            };
        }
        let to_person = level == Level::ERROR || (shown && inner.file.is_none());
        if to_person {
            // It may quote what a container or its configuration says: no control characters
            // reach a terminal.
            let clean = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
            let text: String = text.chars().map(clean).collect();
            let _lost = writeln!(std::io::stderr(), "{word}: {text}");
        }
    }
}

/// Events as lines; spans are not used in this process.
struct Lines(Log);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0.0.level
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.put(
            *event.metadata().level(),
            &format!("{}{}", line.message, line.fields),
        );
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
