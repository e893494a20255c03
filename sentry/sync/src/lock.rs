//! `Mutex` and `RwLock` over parking_lot, with a rank in the type.

use crate::observe::{self, Interest};
use crate::{order::Held, ranks::Rank};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

/// The guard that was had at once, or else the one that is waited for.
#[inline]
fn take<G>(at_once: Option<G>, wait: impl FnOnce() -> G) -> G {
    match at_once {
        Some(guard) => guard,
        None => contended(wait),
    }
}

#[cold]
fn contended<G>(wait: impl FnOnce() -> G) -> G {
    if !observe::wanted(Interest::Locks) {
        return wait();
    }
    let since = Instant::now();
    let guard = wait();
    observe::waited(since);
    guard
}

/// Mutual exclusion at rank `R`. Not poisoned by a panic.
pub struct Mutex<T, R: Rank> {
    rank: PhantomData<fn() -> R>,
    inner: parking_lot::Mutex<T>,
}

/// Proof that a [`Mutex`] is held.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    // The lock is released before the note of it.
    inner: parking_lot::MutexGuard<'a, T>,
    _held: Held,
}

impl<T, R: Rank> Mutex<T, R> {
    /// An unlocked mutex around `value`.
    pub const fn new(value: T) -> Self {
        Mutex {
            rank: PhantomData,
            inner: parking_lot::Mutex::new(value),
        }
    }

    /// Waits for the lock.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let held = Held::take(R::RANK, R::NAME, false);
        MutexGuard {
            inner: take(self.inner.try_lock(), || self.inner.lock()),
            _held: held,
        }
    }

    /// As [`Mutex::lock`], but allowed while another lock of the same rank is held: the caller
    /// vouches for the order among them.
    #[inline]
    #[track_caller]
    pub fn lock_nested(&self) -> MutexGuard<'_, T> {
        let held = Held::take(R::RANK, R::NAME, true);
        MutexGuard {
            inner: take(self.inner.try_lock(), || self.inner.lock()),
            _held: held,
        }
    }

    /// Takes the lock if it is free. Never waits, so it may break the order.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = self.inner.try_lock()?;
        Some(MutexGuard {
            inner,
            _held: Held::take(u32::MAX, R::NAME, true),
        })
    }

    /// The value, when nobody else can hold the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }

    /// Unwraps the value.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: Default, R: Rank> Default for Mutex<T, R> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T, R: Rank> std::fmt::Debug for Mutex<T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mutex<{}>", R::NAME)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// Many readers or one writer, at rank `R`.
pub struct RwLock<T, R: Rank> {
    rank: PhantomData<fn() -> R>,
    inner: parking_lot::RwLock<T>,
}

/// Proof that a [`RwLock`] is held for reading.
#[derive(Debug)]
pub struct RwLockReadGuard<'a, T> {
    inner: parking_lot::RwLockReadGuard<'a, T>,
    _held: Held,
}

/// Proof that a [`RwLock`] is held for writing.
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T> {
    inner: parking_lot::RwLockWriteGuard<'a, T>,
    _held: Held,
}

impl<T, R: Rank> RwLock<T, R> {
    /// An unlocked lock around `value`.
    pub const fn new(value: T) -> Self {
        RwLock {
            rank: PhantomData,
            inner: parking_lot::RwLock::new(value),
        }
    }

    /// Waits until no writer holds it.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let held = Held::take(R::RANK, R::NAME, false);
        RwLockReadGuard {
            inner: take(self.inner.try_read(), || self.inner.read()),
            _held: held,
        }
    }

    /// Waits until nobody holds it.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let held = Held::take(R::RANK, R::NAME, false);
        RwLockWriteGuard {
            inner: take(self.inner.try_write(), || self.inner.write()),
            _held: held,
        }
    }

    /// As [`RwLock::write`], while another lock of the same rank is held.
    #[inline]
    #[track_caller]
    pub fn write_nested(&self) -> RwLockWriteGuard<'_, T> {
        let held = Held::take(R::RANK, R::NAME, true);
        RwLockWriteGuard {
            inner: take(self.inner.try_write(), || self.inner.write()),
            _held: held,
        }
    }

    /// The value, when nobody else can hold the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: Default, R: Rank> Default for RwLock<T, R> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

impl<T, R: Rank> std::fmt::Debug for RwLock<T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RwLock<{}>", R::NAME)
    }
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::{Leaf, Mm, Task};

    #[test]
    fn the_right_order_is_allowed() {
        let a: Mutex<u32, Task> = Mutex::new(1);
        let b: Mutex<u32, Mm> = Mutex::new(2);
        let c: RwLock<u32, Leaf> = RwLock::new(3);
        let ga = a.lock();
        let gb = b.lock();
        let gc = c.read();
        assert_eq!(*ga + *gb + *gc, 6);
    }

    #[cfg(debug_assertions)]
    #[test]
    fn an_inversion_panics() {
        let r = std::panic::catch_unwind(|| {
            let a: Mutex<u32, Task> = Mutex::new(1);
            let b: Mutex<u32, Mm> = Mutex::new(2);
            let _gb = b.lock();
            let _ga = a.lock();
        });
        assert!(r.is_err());
        // The unwound guards took their notes with them.
        let a: Mutex<u32, Task> = Mutex::new(1);
        let _ga = a.lock();
    }

    #[test]
    fn equal_ranks_nest_only_when_asked() {
        let a: Mutex<u32, Task> = Mutex::new(1);
        let b: Mutex<u32, Task> = Mutex::new(2);
        let _ga = a.lock();
        let _gb = b.lock_nested();
        assert!(a.try_lock().is_none());
    }
}
