//! The check of lock order, alive in debug builds alone.

#[cfg(debug_assertions)]
mod checked {
    use std::cell::RefCell;

    thread_local! {
        static HELD: RefCell<Vec<(u32, &'static str)>> = const { RefCell::new(Vec::new()) };
    }

    /// A note that a lock is held by this thread; taken back on drop.
    #[derive(Debug)]
    pub(crate) struct Held {
        rank: u32,
    }

    impl Held {
        pub(crate) fn take(rank: u32, name: &'static str, nested: bool) -> Held {
            HELD.with_borrow_mut(|held| {
                if let Some((top, top_name)) = held.iter().max_by_key(|(r, _)| *r) {
                    let fine = *top < rank || (nested && *top == rank);
                    if !fine && !std::thread::panicking() {
                        let all: Vec<_> = held.iter().map(|(_, n)| *n).collect();
                        panic!("lock order: {name} taken while holding {top_name} (held: {all:?})");
                    }
                }
                held.push((rank, name));
            });
            Held { rank }
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            // A guard may outlive its thread's locals during thread exit; nothing to check then.
            let _ = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                if let Some(at) = held.iter().rposition(|(r, _)| *r == self.rank) {
                    held.remove(at);
                }
            });
        }
    }
}

#[cfg(not(debug_assertions))]
mod unchecked {
    /// Nothing, in release builds.
    #[derive(Debug)]
    pub(crate) struct Held;

    impl Held {
        #[inline(always)]
        pub(crate) fn take(_rank: u32, _name: &'static str, _nested: bool) -> Held {
            Held
        }
    }
}

#[cfg(debug_assertions)]
pub(crate) use checked::Held;
#[cfg(not(debug_assertions))]
pub(crate) use unchecked::Held;
