//! How many namespaces there may be of each kind, and how many there are (`user.max_*` in
//! namespaces(7)).
//!
//! Who makes one counts as a user of the user namespace it is to belong to. That namespace was made
//! by a user of its parent, who counts as well, and so on to the first: each has its own limits.

use crate::UserNamespace;
use abi::Errno;
use std::collections::BTreeMap;
use sync::{Mutex, ranks};
use sysctl::Knob;

/// What is counted: the kinds of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Of control groups.
    Cgroup,
    /// Of IPC objects.
    Ipc,
    /// Of mounts.
    Mount,
    /// Of networks.
    Net,
    /// Of processes.
    Pid,
    /// Of users.
    User,
    /// Of host names.
    Uts,
}

/// How many kinds there are.
const KINDS: usize = 7;
/// How many there may be of each in the first user namespace at the beginning.
const USUAL: i64 = 16384;

/// Limits and counts of one user namespace.
pub(crate) struct Counts {
    limits: [Knob; KINDS],
    /// By user; one that has nothing is not there.
    made: Mutex<BTreeMap<u32, [i64; KINDS]>, ranks::Leaf>,
}

pub(crate) static FIRST: Counts =
    Counts::with([const { Knob::new(USUAL, 0, i32::MAX as i64) }; KINDS]);

impl Counts {
    const fn with(limits: [Knob; KINDS]) -> Counts {
        Counts {
            limits,
            made: Mutex::new(BTreeMap::new()),
        }
    }

    /// Those of a user namespace that is made: there may be as many as those around it leave.
    pub(crate) fn new() -> Counts {
        Counts::with([const { Knob::new(i32::MAX as i64, 0, i32::MAX as i64) }; KINDS])
    }

    pub(crate) fn limit(&self, kind: Counted) -> &Knob {
        &self.limits[kind as usize]
    }

    /// One more; `ENOSPC` where that would be too many.
    fn add(&self, user: u32, kind: Counted) -> Result<(), Errno> {
        let mut made = self.made.lock();
        let own = made.entry(user).or_default();
        let more = own[kind as usize] + 1;
        let fits = more <= self.limit(kind).get();
        if fits {
            own[kind as usize] = more;
        } else if *own == [0; KINDS] {
            made.remove(&user);
        }
        if fits { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    fn take(&self, user: u32, kind: Counted) {
        let mut made = self.made.lock();
        let Some(own) = made.get_mut(&user) else {
            debug_assert!(false, "{kind:?} of user {user} was not counted");
            return;
        };
        own[kind as usize] -= 1;
        if *own == [0; KINDS] {
            made.remove(&user);
        }
    }
}

/// One namespace, counted as long as this is there.
#[derive(Debug)]
pub struct Share {
    users: UserNamespace,
    user: u32,
    kind: Counted,
}

impl Share {
    /// One more of `kind` in `users`, made by `user`.
    ///
    /// # Errors
    /// `ENOSPC` where there would be too many, there or around it.
    pub fn of(users: &UserNamespace, user: u32, kind: Counted) -> Result<Share, Errno> {
        let mut refused = None;
        for (at, (users, user)) in chain(users, user).enumerate() {
            if let Err(e) = users.counts().add(user, kind) {
                refused = Some((at, e));
                break;
            }
        }
        if let Some((counted, e)) = refused {
            for (users, user) in chain(users, user).take(counted) {
                users.counts().take(user, kind);
            }
            return Err(e);
        }
        Ok(Share {
            users: users.clone(),
            user,
            kind,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        for (users, user) in chain(&self.users, self.user) {
            users.counts().take(user, self.kind);
        }
    }
}

/// Who counts where: `user` in `users`, who made that in the one it is in, and so on.
fn chain(users: &UserNamespace, user: u32) -> impl Iterator<Item = (&UserNamespace, u32)> {
    std::iter::successors(Some((users, user)), |(users, _)| {
        Some((users.parent()?, users.owner()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Creds;

    #[test]
    fn each_namespace_has_its_limits_and_all_of_them_hold() {
        let root = Creds::user(4242, 4242);
        let outer = root.in_new_user_namespace(1, false).unwrap().user_ns;
        outer.limit(Counted::Uts).set(2).unwrap();
        let one = Share::of(&outer, 7, Counted::Uts).unwrap();
        let two = Share::of(&outer, 7, Counted::Uts).unwrap();
        assert!(Share::of(&outer, 7, Counted::Uts).is_err());
        // Another user and another kind are others.
        let other = Share::of(&outer, 8, Counted::Uts).unwrap();
        let ipc = Share::of(&outer, 7, Counted::Ipc).unwrap();
        drop((one, ipc));
        let again = Share::of(&outer, 7, Counted::Uts).unwrap();
        drop((two, again, other));
        assert!(outer.counts().made.lock().is_empty());
        // All are on the account of who made the namespace they are in.
        let made = |user| {
            FIRST
                .made
                .lock()
                .get(&user)
                .map(|own| own[Counted::Uts as usize])
        };
        let share = Share::of(&outer, 9, Counted::Uts).unwrap();
        assert_eq!(made(4242), Some(1));
        drop(share);
        assert_eq!(made(4242), Some(0));
        drop((outer, root));
        assert_eq!(made(4242), None);
    }

    #[test]
    fn what_is_refused_further_out_is_counted_nowhere() {
        let maker = Creds::user(4343, 4343);
        let outer = maker.in_new_user_namespace(1, false).unwrap();
        outer.user_ns.limit(Counted::Net).set(0).unwrap();
        let write = |kind, text: &[u8]| {
            let by = (&outer, &outer);
            outer.user_ns.write_map(kind, by, 0, text).unwrap();
        };
        write(crate::IdKind::User, b"0 4343 1");
        outer.user_ns.set_setgroups(false).unwrap();
        write(crate::IdKind::Group, b"0 4343 1");
        let inner = outer.in_new_user_namespace(2, false).unwrap().user_ns;
        assert_eq!(
            Share::of(&inner, 4343, Counted::Net).map(drop),
            Err(Errno::ENOSPC)
        );
        assert!(inner.counts().made.lock().is_empty());
    }
}
