//! Memory of our own processes that only their start needed. A container has three of them for as
//! long as it lives, and most of its life most of them sleep.
// UNSAFETY: two host calls over the executable's own read-only pages, named by the linker.
#![expect(unsafe_code, reason = "raw host calls and symbols of the linker")]

unsafe extern "C" {
    /// First byte of the executable in memory; from the linker.
    static __executable_start: u8;
    /// One past the last byte of its code; from the linker.
    static etext: u8;
}

/// A process for which nothing came for so long after its start, in milliseconds, has come to rest.
pub const REST_MS: u16 = 1000;

/// Gives back free heap, and the pages of our own code and constants, which come back from the page
/// cache when they are used again. For a process that has come to rest. Any thread may call it
/// while others run.
pub fn let_go() {
    const PAGE: usize = 4096;
    // SAFETY: trimming the heap is always allowed. The range holds read-only file pages alone
    // (headers, constants, code): nothing in it was ever written, so dropping loses nothing, and
    // the next access, of whichever thread, reads the same bytes from the file.
    unsafe {
        libc::malloc_trim(0);
        let first = (&raw const __executable_start)
            .addr()
            .next_multiple_of(PAGE);
        let end = (&raw const etext).addr() & !(PAGE - 1);
        let start = (&raw const __executable_start)
            .with_addr(first)
            .cast_mut()
            .cast();
        libc::madvise(start, end.saturating_sub(first), libc::MADV_DONTNEED);
    }
}

#[cfg(test)]
mod tests {
    use super::let_go;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    static WORDS: &str = "constants, too";

    /// Kilobytes of the executable's own pages that are mapped.
    fn mapped() -> u64 {
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let own = std::env::current_exe().unwrap();
        let (mut ours, mut sum) = (false, 0);
        for line in text.lines() {
            if line.split(' ').next().is_some_and(|w| w.contains('-')) {
                ours = line.ends_with(own.to_str().unwrap()) && line.contains(" r-xp ");
            } else if let Some(rest) = line.strip_prefix("Rss:").filter(|_| ours) {
                sum += rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        sum
    }

    #[test]
    fn code_comes_back_under_those_who_run_it() {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut sum = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    sum = WORDS
                        .bytes()
                        .fold(sum, |s, b| s.rotate_left(3) ^ u64::from(b));
                }
                sum
            });
            let before = mapped();
            for _ in 0..100 {
                let_go();
            }
            assert!(mapped() < before);
            stop.store(true, Ordering::Relaxed);
            other.join().unwrap();
        });
        assert_eq!(WORDS.len(), 14);
    }
}
