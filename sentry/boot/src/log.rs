//! The sandbox process's log: to a donated file, or nowhere.

use control::boot::DebugSpec;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tracing::Level;

/// Sends this process's records to `file`. Without one there is no subscriber at all, and a
/// record costs one comparison.
pub(crate) fn start(debug: &DebugSpec, file: Option<OwnedFd>) {
    let Some(file) = file else { return };
    let level = if debug.verbose || debug.strace {
        Level::DEBUG
    } else {
        Level::INFO
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(Arc::new(File::from(file)));
    // A second call (in tests) keeps the first subscriber.
    let _first = if debug.json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
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
