//! Coverage of processes of ours that can open no file: the sandbox process and the gofer.
//!
//! A program that is built with `-C instrument-coverage` counts what runs, and writes that into a file
//! when it ends. These two have no environment to name it, no tree to make it in, and a filter that
//! forbids the calls. So the launcher opens a file for each ([`file_for`]) and donates it, and the
//! process writes its counts there itself ([`Profile::write`]).
//!
//! Without that flag, of which the build script tells, nothing is opened and nothing is written.
// UNSAFETY: calls of the compiler's profile runtime, which is linked in with `-C instrument-coverage`.
#![cfg_attr(
    coverage,
    expect(unsafe_code, reason = "the compiler's profile runtime is C")
)]

use std::ffi::OsStr;
use std::fs::File;

/// Where a process's counts go.
#[derive(Debug)]
pub struct Profile(File);

#[cfg(not(coverage))]
mod counted {
    use super::{File, OsStr, Profile};

    /// No file is wanted: nothing is counted.
    pub fn file_for(_: &str) -> Option<File> {
        None
    }

    /// Nothing is put into the environment.
    pub fn is_own_variable(_: &OsStr) -> bool {
        false
    }

    impl Profile {
        /// Takes the donated file.
        pub fn new(file: File) -> Profile {
            Profile(file)
        }

        /// Nothing was counted.
        pub fn write(self) {
            drop(self.0);
        }
    }
}

#[cfg(coverage)]
mod counted {
    use super::{File, OsStr, Profile};
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    unsafe extern "C" {
        fn __llvm_profile_get_size_for_buffer() -> u64;
        fn __llvm_profile_write_buffer(buffer: *mut std::ffi::c_char) -> std::ffi::c_int;
        fn __llvm_profile_set_dumped();
    }

    /// A new file for the counts of a process called `role`, beside where those of this one go (the
    /// directory of `LLVM_PROFILE_FILE`).
    pub fn file_for(role: &str) -> Option<File> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let pattern = std::env::var_os("LLVM_PROFILE_FILE").map(PathBuf::from);
        let dir = pattern.as_deref().and_then(Path::parent);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringfence-{role}-{}-{count}.profraw", std::process::id());
        let path = dir.unwrap_or(Path::new("")).join(name);
        match File::create(&path) {
            Ok(file) => Some(file),
            Err(e) => {
                eprintln!("warning: cannot make {}: {e}", path.display());
                None
            }
        }
    }

    /// Whether the runtime put the variable of this name into the environment when the process began.
    pub fn is_own_variable(name: &OsStr) -> bool {
        name == "__LLVM_PROFILE_RT_INIT_ONCE"
    }

    impl Profile {
        /// Takes the donated file. The runtime makes none of its own from now on, which would be the
        /// end of a process that may open nothing.
        pub fn new(file: File) -> Profile {
            // SAFETY: sets a flag of the runtime's.
            unsafe { __llvm_profile_set_dumped() };
            Profile(file)
        }

        /// Writes what was counted so far.
        pub fn write(mut self) {
            // SAFETY: reads the sizes of the program's own sections.
            let size = unsafe { __llvm_profile_get_size_for_buffer() };
            let mut buffer = vec![0u8; usize::try_from(size).unwrap_or(0)];
            // SAFETY: the buffer has the size that the runtime asked for. Other threads may count
            // meanwhile: counters are plain numbers, of which any state will do.
            let failed = unsafe { __llvm_profile_write_buffer(buffer.as_mut_ptr().cast()) };
            if failed == 0 {
                // Nobody is left to be told of a full disk but the one who reads the file.
                let _short = self.0.write_all(&buffer);
            }
        }
    }
}

pub use counted::{file_for, is_own_variable};
