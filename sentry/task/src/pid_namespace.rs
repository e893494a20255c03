//! PID namespaces (pid_namespaces(7)): who is called what in them, and how they begin and end.
//!
//! The kernel tells tasks, process groups and sessions by their numbers in its own, outermost
//! namespace, their *ids*; the tree and all of this crate know no others. One in a nested namespace
//! has a number there and in each one above, kept in its [`Pid`] for who is told of it, and in the
//! namespace's table for who names it. [`crate::pids`] is where both happen.

use abi::Errno;
use auth::{Counted, Share, UserNamespace};
use ctx::{Pid, PidSpace};
use std::collections::BTreeMap;
use std::sync::Arc;
use sync::{Mutex, MutexGuard, ranks};
use vfs::nsfs::NamespaceId;
use wait::Waker;

/// `pid_max`, and where numbers begin again after it.
pub(crate) const PID_MAX: i32 = 4_194_304;
const PID_RESTART: i32 = 300;
/// How deep they may be nested.
const DEEPEST: usize = 32;

/// A PID namespace.
pub struct PidNamespace {
    numbers: Mutex<Numbers, ranks::PidNumbers>,
    id: NamespaceId,
    owner: UserNamespace,
    parent: Option<Arc<PidNamespace>>,
    level: usize,
}

/// What only a nested one has: in the outermost, numbers are ids, and the tree's tables are its.
#[derive(Default)]
pub(crate) struct Numbers {
    last: i32,
    /// Ids by number.
    ids: BTreeMap<i32, i32>,
    /// The id of its first process, from that one's beginning on.
    pub(crate) init: Option<i32>,
    /// Its first process ends or has ended: no other can begin.
    pub(crate) closed: bool,
    /// The first process, while it waits for all the others to be gone.
    pub(crate) waits: Option<Arc<Waker>>,
}

impl std::fmt::Debug for PidNamespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PidNamespace({})", self.id.get())
    }
}

impl PidNamespace {
    /// A kernel's own.
    pub(crate) fn outermost() -> Arc<PidNamespace> {
        Arc::new(PidNamespace {
            numbers: Mutex::new(Numbers::default()),
            id: NamespaceId::new(),
            owner: UserNamespace::default(),
            parent: None,
            level: 0,
        })
    }

    /// One without processes below `parent`, which belongs to `owner` and was made by `user`.
    ///
    /// # Errors
    /// `EINVAL` where the owner of `parent` is not around `owner`, `ENOSPC` where that is as deep as
    /// they may be or there are too many.
    pub(crate) fn nested(
        parent: &Arc<PidNamespace>,
        owner: &UserNamespace,
        user: u32,
    ) -> Result<Arc<PidNamespace>, Errno> {
        if !owner.is_within(&parent.owner) {
            return Err(Errno::EINVAL);
        }
        let level = parent.level + 1;
        if level > DEEPEST {
            return Err(Errno::ENOSPC);
        }
        Ok(Arc::new(PidNamespace {
            numbers: Mutex::new(Numbers::default()),
            id: NamespaceId::counted(Share::of(owner, user, Counted::Pid)?),
            owner: owner.clone(),
            parent: Some(parent.clone()),
            level,
        }))
    }

    /// The number of its file in `/proc/PID/ns`.
    pub fn id(&self) -> u64 {
        self.id.get()
    }

    /// What tells it from others in a [`Pid`].
    pub fn space(&self) -> PidSpace {
        PidSpace(self.id.get())
    }

    /// The user namespace whose it is.
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// The one that it is nested in.
    pub fn parent(&self) -> Option<&Arc<PidNamespace>> {
        self.parent.as_ref()
    }

    /// Whether it is `above` or below that one.
    pub fn is_within(&self, above: &PidNamespace) -> bool {
        let mut at = Some(self);
        while let Some(ns) = at {
            if std::ptr::eq(ns, above) {
                return true;
            }
            at = ns.parent.as_deref();
        }
        false
    }

    /// Whether its first process has begun, or it is the outermost.
    pub fn has_begun(&self) -> bool {
        self.parent.is_none() || self.numbers.lock().init.is_some()
    }

    pub(crate) fn is_nested(&self) -> bool {
        self.parent.is_some()
    }

    /// Of a nested one. To be called with the tree's lock held.
    pub(crate) fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock()
    }

    /// It and those above it that are nested, too, from the inside out.
    pub(crate) fn nested_chain(self: &Arc<Self>) -> impl Iterator<Item = &Arc<PidNamespace>> {
        let up = std::iter::successors(Some(self), |ns| ns.parent.as_ref());
        up.filter(|ns| ns.is_nested())
    }

    /// The numbers that a new one in it is to have there and in the nested ones above, from the
    /// inside out: as `wanted`, of the innermost first, or what is free. Nothing is taken yet.
    ///
    /// # Errors
    /// `EINVAL` for what cannot be a number or not be the first, `EPERM` where `may_want` denies it for an owner,
    /// `EEXIST`; `EAGAIN` where none is left.
    pub(crate) fn choose(
        self: &Arc<Self>,
        wanted: &[i32],
        may_want: &dyn Fn(&UserNamespace) -> bool,
    ) -> Result<Vec<i32>, Errno> {
        let mut wanted = wanted.iter().copied();
        self.nested_chain()
            .map(|ns| {
                let mut numbers = ns.numbers.lock();
                match wanted.next() {
                    Some(number) => {
                        check_wanted(number, numbers.init.is_some(), may_want(&ns.owner))?;
                        match numbers.ids.contains_key(&number) {
                            true => Err(Errno::EEXIST),
                            false => Ok(number),
                        }
                    }
                    None => numbers.free(),
                }
            })
            .collect()
    }

    /// Takes the numbers that were chosen, for `pid`, which tells them.
    pub(crate) fn take(self: &Arc<Self>, pid: &Pid) {
        let numbers = pid.nested().iter().rev();
        for (ns, (_, number)) in self.nested_chain().zip(numbers) {
            ns.numbers.lock().ids.insert(*number, pid.id());
        }
    }

    /// Nothing is called `pid` any more.
    pub(crate) fn give_back(self: &Arc<Self>, pid: &Pid) {
        let numbers = pid.nested().iter().rev();
        for (ns, (_, number)) in self.nested_chain().zip(numbers) {
            let mut numbers = ns.numbers.lock();
            numbers.ids.remove(number);
            // Its first process ended; or could not be run, and nobody takes its place.
            numbers.closed |= *number == 1 && numbers.init.is_some();
            if numbers.init.is_none() && numbers.ids.is_empty() {
                // The first process could not be made: the next one will be.
                numbers.last = 0;
            }
            if let Some(init) = &numbers.waits {
                init.wake();
            }
        }
    }
}

/// What clone3(2) can be asked for.
pub(crate) fn check_wanted(number: i32, has_init: bool, may_want: bool) -> Result<(), Errno> {
    if !(1..PID_MAX).contains(&number) || (number != 1 && !has_init) {
        return Err(Errno::EINVAL);
    }
    match may_want {
        true => Ok(()),
        false => Err(Errno::EPERM),
    }
}

/// The number to be tried after `last`.
pub(crate) fn next(last: i32) -> i32 {
    match last + 1 {
        n if n < PID_MAX => n,
        _ => PID_RESTART,
    }
}

impl Numbers {
    fn free(&mut self) -> Result<i32, Errno> {
        for _ in 0..PID_MAX {
            self.last = next(self.last);
            if !self.ids.contains_key(&self.last) {
                return Ok(self.last);
            }
        }
        Err(Errno::EAGAIN)
    }

    pub(crate) fn id(&self, number: i32) -> i32 {
        self.ids.get(&number).copied().unwrap_or(0)
    }

    pub(crate) fn ids(&self) -> Vec<i32> {
        self.ids.values().copied().collect()
    }

    pub(crate) fn last(&self) -> i32 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new one in `ns`, called `id` by the kernel.
    fn make(ns: &Arc<PidNamespace>, id: i32, wanted: &[i32]) -> Result<Pid, Errno> {
        let chosen = ns.choose(wanted, &|_| true)?;
        let spaces = ns.nested_chain().map(|ns| ns.space());
        let mut nested: Vec<_> = spaces.zip(chosen).collect();
        nested.reverse();
        let pid = Pid::new(PidSpace(0), id).with_nested(&nested);
        ns.take(&pid);
        Ok(pid)
    }

    #[test]
    fn numbers_begin_at_one_in_each_and_are_had_again_at_the_end_only() {
        let outer = PidNamespace::outermost();
        let middle = PidNamespace::nested(&outer, &UserNamespace::default(), 0).unwrap();
        let first = make(&middle, 70, &[]).unwrap();
        middle.numbers().init = Some(70);
        let inner = PidNamespace::nested(&middle, &UserNamespace::default(), 0).unwrap();
        let second = make(&inner, 71, &[]).unwrap();
        assert_eq!((first.own(), second.own()), (1, 1));
        assert_eq!(second.seen_from(middle.space()), 2);
        assert_eq!(middle.numbers().id(2), 71);
        assert_eq!(inner.numbers().id(1), 71);
        inner.give_back(&second);
        assert_eq!(middle.numbers().id(2), 0);
        assert_eq!(inner.numbers().id(1), 0);
        // That one never became the first process.
        assert_eq!(make(&inner, 72, &[]).unwrap().own(), 1);
        assert_eq!(middle.numbers().ids(), [70, 72]);
    }

    #[test]
    fn a_number_that_is_asked_for_is_had_or_refused() {
        let outer = PidNamespace::outermost();
        let ns = PidNamespace::nested(&outer, &UserNamespace::default(), 0).unwrap();
        // The first process is number 1.
        assert_eq!(make(&ns, 70, &[5]), Err(Errno::EINVAL));
        assert_eq!(make(&ns, 70, &[1]).map(|p| p.own()), Ok(1));
        ns.numbers().init = Some(70);
        assert_eq!(make(&ns, 71, &[1]), Err(Errno::EEXIST));
        assert_eq!(make(&ns, 71, &[500]).map(|p| p.own()), Ok(500));
        assert_eq!(make(&ns, 72, &[PID_MAX]), Err(Errno::EINVAL));
        assert_eq!(ns.choose(&[600], &|_| false), Err(Errno::EPERM));
    }

    #[test]
    fn they_are_nested_so_deep_and_no_deeper() {
        let mut at = PidNamespace::outermost();
        let outer = at.clone();
        for _ in 0..DEEPEST {
            at = PidNamespace::nested(&at, &UserNamespace::default(), 0).unwrap();
        }
        assert_eq!(
            PidNamespace::nested(&at, &UserNamespace::default(), 0).map(drop),
            Err(Errno::ENOSPC)
        );
        assert!(at.is_within(&outer) && !outer.is_within(&at));
    }
}
