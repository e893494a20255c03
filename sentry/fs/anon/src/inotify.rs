//! inotify(7): an instance, its watches and its queue.
//!
//! What happens to files comes from `vfs::notify`. A [`Watch`] is the mark on one inode; it looks
//! whether its mask wants the event and puts it into the instance's queue. Instances and watches
//! are counted by user, as Linux does, so that one user cannot fill our memory.

use abi::Errno;
use ctx::{Ctx, Dst, Restart, SysErr, SysResult, UserMemoryExt, wait_for};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};
use vfs::notify::{self, Event, Happened, Mark};
use vfs::sigio::{Reason, Watchers};
use vfs::{File, FileOps, OpenFlags, VfsPath, would_block};
use wait::{Events, Queue};

const IN_ALL_EVENTS: u32 = 0xfff;
const IN_Q_OVERFLOW: u32 = 0x4000;
const IN_IGNORED: u32 = 0x8000;
/// `IN_ONLYDIR`
pub const IN_ONLYDIR: u32 = 0x100_0000;
/// `IN_DONT_FOLLOW`
pub const IN_DONT_FOLLOW: u32 = 0x200_0000;
const IN_EXCL_UNLINK: u32 = 0x400_0000;
const IN_MASK_CREATE: u32 = 0x1000_0000;
const IN_MASK_ADD: u32 = 0x2000_0000;
const IN_ISDIR: u32 = 0x4000_0000;
const IN_ONESHOT: u32 = 0x8000_0000;
const IN_UNMOUNT: u32 = 0x2000;
/// All bits that inotify_add_watch(2) takes.
const KNOWN: u32 = IN_ALL_EVENTS
    | IN_UNMOUNT
    | IN_Q_OVERFLOW
    | IN_IGNORED
    | IN_ONLYDIR
    | IN_DONT_FOLLOW
    | IN_EXCL_UNLINK
    | IN_MASK_CREATE
    | IN_MASK_ADD
    | IN_ISDIR
    | IN_ONESHOT;
/// What a watch keeps of them.
const KEPT: u32 = IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT;

/// Bytes of `struct inotify_event` without its name.
const HEADER: usize = 16;

/// What each user has, by uid.
static USERS: Mutex<BTreeMap<u32, Count>, ranks::Leaf> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Count {
    instances: usize,
    watches: usize,
}

/// An instance: what inotify_init1(2) gives a descriptor of.
pub struct Inotify {
    state: Mutex<State, ranks::Leaf>,
    queue: Queue,
    watchers: Watchers,
    uid: u32,
    this: Weak<Inotify>,
}

#[derive(Default)]
struct State {
    last_wd: i32,
    watches: BTreeMap<i32, Arc<Watch>>,
    by_inode: BTreeMap<usize, i32>,
    events: VecDeque<Queued>,
    /// What all of them take up in a read.
    bytes: usize,
    overflow: bool,
}

#[derive(PartialEq)]
struct Queued {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Option<Box<[u8]>>,
}

impl Queued {
    /// Bytes of its name in a read: with a NUL, and the next header aligned.
    fn name_len(&self) -> usize {
        self.name
            .as_ref()
            .map_or(0, |n| (n.len() + 1).next_multiple_of(HEADER))
    }

    fn len(&self) -> usize {
        HEADER + self.name_len()
    }

    /// Whether it says nothing beyond `last`, which is still to be read.
    fn repeats(&self, last: &Queued) -> bool {
        (self.wd, self.mask, &self.name) == (last.wd, last.mask, &last.name)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        out.extend(self.wd.to_ne_bytes());
        out.extend(self.mask.to_ne_bytes());
        out.extend(self.cookie.to_ne_bytes());
        out.extend((self.name_len() as u32).to_ne_bytes());
        out.extend(self.name.iter().flat_map(|n| n.iter()));
        out.resize(self.len(), 0);
        out
    }
}

/// A watch of an instance.
struct Watch {
    wd: i32,
    inode: usize,
    /// For /proc/PID/fdinfo: device and number.
    shown: (u64, u64),
    mask: AtomicU32,
    inotify: Weak<Inotify>,
}

impl Mark for Watch {
    fn event(&self, event: &Event<'_>) {
        let Some(inotify) = self.inotify.upgrade() else {
            return;
        };
        let mask = self.mask.load(Ordering::Acquire);
        let what = event.what.bits();
        if (mask | IN_UNMOUNT) & what & !IN_ISDIR == 0
            || (mask & IN_EXCL_UNLINK != 0 && event.unlinked)
        {
            return;
        }
        let itself = Happened::DELETE_SELF | Happened::MOVE_SELF;
        let shown = if event.what.intersects(itself) {
            what & !IN_ISDIR
        } else {
            what
        };
        inotify.put(Queued {
            wd: self.wd,
            mask: shown,
            cookie: event.cookie,
            name: event.name.map(Into::into),
        });
        if mask & IN_ONESHOT != 0 {
            let _ = inotify.remove(self.wd);
        }
    }

    fn gone(&self) {
        if let Some(inotify) = self.inotify.upgrade() {
            inotify.forget(self.wd);
        }
    }
}

impl Inotify {
    /// inotify_init1(2). `flags` may hold `NONBLOCK`.
    ///
    /// # Errors
    /// `EMFILE` where the user has too many instances.
    pub fn open(cx: &dyn Ctx, flags: OpenFlags) -> Result<Arc<File>, Errno> {
        let uid = cx.creds().euid;
        {
            let mut users = USERS.lock();
            let count = users.entry(uid).or_default();
            if count.instances >= sysctl::INOTIFY_INSTANCES.size() {
                return Err(Errno::EMFILE);
            }
            count.instances += 1;
        }
        let inotify = Arc::new_cyclic(|this| Inotify {
            state: Mutex::new(State::default()),
            queue: Queue::new(),
            watchers: Watchers::new(),
            uid,
            this: this.clone(),
        });
        let flags = (flags & OpenFlags::NONBLOCK) | OpenFlags::RDONLY;
        Ok(File::anonymous(cx, inotify, flags))
    }

    /// Whether inotify_add_watch(2) takes `mask`.
    ///
    /// # Errors
    /// `EINVAL` for unknown bits, and for none.
    pub fn check_mask(mask: u32) -> Result<(), Errno> {
        if mask & !KNOWN != 0 || mask & KNOWN == 0 {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// Whether the flags in `mask` can stand together.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn check_flags(mask: u32) -> Result<(), Errno> {
        if mask & IN_MASK_ADD != 0 && mask & IN_MASK_CREATE != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// inotify_add_watch(2) of what is at `at`, which the caller has been found to be allowed to
    /// read: the watch descriptor.
    ///
    /// # Errors
    /// `EEXIST` for `IN_MASK_CREATE` of what is watched already, `ENOSPC` where the user has too
    /// many watches.
    pub fn add(&self, cx: &dyn Ctx, at: &VfsPath, mask: u32) -> Result<i32, Errno> {
        let attr = at.attr(cx)?;
        let inode = notify::id(at);
        let watch = {
            let mut st = self.state.lock();
            if let Some(old) = st.by_inode.get(&inode).and_then(|wd| st.watches.get(wd)) {
                if mask & IN_MASK_CREATE != 0 {
                    return Err(Errno::EEXIST);
                }
                let kept = if mask & IN_MASK_ADD != 0 {
                    old.mask.load(Ordering::Acquire)
                } else {
                    0
                };
                old.mask.store(kept | mask & KEPT, Ordering::Release);
                return Ok(old.wd);
            }
            let wd = st.last_wd.checked_add(1).ok_or(Errno::ENOSPC)?;
            self.charge()?;
            st.last_wd = wd;
            let watch = Arc::new(Watch {
                wd,
                inode,
                shown: (attr.dev, attr.ino),
                mask: AtomicU32::new(mask & KEPT),
                inotify: self.this.clone(),
            });
            st.watches.insert(wd, watch.clone());
            st.by_inode.insert(inode, wd);
            watch
        };
        let wd = watch.wd;
        notify::add(at, watch);
        Ok(wd)
    }

    fn charge(&self) -> Result<(), Errno> {
        // Lock order: an instance's state, then the users; both leaves, the second nested.
        let mut users = USERS.lock_nested();
        let count = users.entry(self.uid).or_default();
        if count.watches >= sysctl::INOTIFY_WATCHES.size() {
            return Err(Errno::ENOSPC);
        }
        count.watches += 1;
        Ok(())
    }

    /// inotify_rm_watch(2).
    ///
    /// # Errors
    /// `EINVAL` where there is no such watch.
    pub fn remove(&self, wd: i32) -> Result<(), Errno> {
        let watch = self.take(wd).ok_or(Errno::EINVAL)?;
        let inode = watch.inode;
        let mark: Arc<dyn Mark> = watch;
        notify::remove(inode, &mark);
        self.put_ignored(wd);
        Ok(())
    }

    /// The watch has ended with its inode.
    fn forget(&self, wd: i32) {
        if self.take(wd).is_some() {
            self.put_ignored(wd);
        }
    }

    fn put_ignored(&self, wd: i32) {
        self.put(Queued {
            wd,
            mask: IN_IGNORED,
            cookie: 0,
            name: None,
        });
    }

    fn take(&self, wd: i32) -> Option<Arc<Watch>> {
        let watch = {
            let mut st = self.state.lock();
            let watch = st.watches.remove(&wd)?;
            st.by_inode.remove(&watch.inode);
            watch
        };
        uncharge(self.uid, 0, 1);
        Some(watch)
    }

    fn put(&self, event: Queued) {
        {
            let mut st = self.state.lock();
            let full = st.events.len() >= sysctl::INOTIFY_EVENTS.size();
            let repeated = st.events.back().is_some_and(|last| event.repeats(last));
            if (full && st.overflow) || (!full && repeated) {
                return;
            }
            let event = if full {
                st.overflow = true;
                Queued {
                    wd: -1,
                    mask: IN_Q_OVERFLOW,
                    cookie: 0,
                    name: None,
                }
            } else {
                event
            };
            st.bytes += event.len();
            st.events.push_back(event);
        }
        self.queue.notify(Events::READABLE);
        self.watchers.tell(Reason::In);
    }

    /// The next event, where it fits into `room` bytes.
    fn next(&self, room: usize) -> Result<Option<Queued>, Errno> {
        let mut st = self.state.lock();
        match st.events.front() {
            None => return Ok(None),
            Some(event) if event.len() > room => return Err(Errno::EINVAL),
            Some(_) => {}
        }
        let event = st.events.pop_front();
        if let Some(event) = &event {
            st.bytes -= event.len();
            st.overflow &= event.mask != IN_Q_OVERFLOW;
        }
        Ok(event)
    }
}

fn uncharge(uid: u32, instances: usize, watches: usize) {
    let mut users = USERS.lock();
    if let Some(count) = users.get_mut(&uid) {
        count.instances -= instances;
        count.watches -= watches;
        if count.instances == 0 && count.watches == 0 {
            users.remove(&uid);
        }
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let watches = std::mem::take(&mut self.state.get_mut().watches);
        uncharge(self.uid, 1, watches.len());
        for watch in watches.into_values() {
            let inode = watch.inode;
            let mark: Arc<dyn Mark> = watch;
            notify::remove(inode, &mark);
        }
    }
}

impl FileOps for Inotify {
    fn takes_async_reads(&self) -> bool {
        false
    }

    fn seekable(&self) -> bool {
        false
    }

    fn takes_writes(&self) -> bool {
        false
    }

    fn stays_at_start(&self) -> bool {
        true
    }

    fn read(&self, cx: &dyn Ctx, file: &File, _offset: u64, dst: &mut Dst<'_>) -> SysResult {
        let room = dst.remaining();
        let first = wait_for(
            cx,
            &self.queue,
            Events::READABLE,
            None,
            Restart::Sys,
            || match self.next(room)? {
                Some(event) => Ok(Some(event)),
                None if file.nonblocking() => would_block(),
                None => Ok(None),
            },
        )?;
        let mut next = first;
        let mut done = 0;
        // An event that has been taken and does not arrive is lost, as on Linux.
        while let Some(event) = next {
            let bytes = event.bytes();
            if dst.put(&bytes)? < bytes.len() {
                return Err(Errno::EFAULT.into());
            }
            done += bytes.len();
            next = self.next(room - done).unwrap_or(None);
        }
        if !self.ready(file).is_empty() {
            self.queue.pass_on(Events::READABLE);
        }
        Ok(done)
    }

    fn ready(&self, _file: &File) -> Events {
        if self.state.lock().events.is_empty() {
            Events::empty()
        } else {
            Events::READABLE
        }
    }

    fn queue(&self) -> Option<&Queue> {
        Some(&self.queue)
    }

    fn watchers(&self) -> [Option<&Watchers>; 2] {
        [Some(&self.watchers), None]
    }

    fn ioctl(&self, cx: &dyn Ctx, _file: &File, request: u32, arg: u64) -> Result<u64, SysErr> {
        const FIONREAD: u32 = 0x541b;
        if request != FIONREAD {
            return Err(Errno::ENOTTY.into());
        }
        let bytes = i32::try_from(self.state.lock().bytes).unwrap_or(i32::MAX);
        cx.memory().write_obj(arg, &bytes)?;
        Ok(0)
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:inotify".to_vec())
    }

    fn fdinfo(&self) -> String {
        let mut text = String::new();
        for w in self.state.lock().watches.values().rev() {
            let mask = w.mask.load(Ordering::Acquire);
            let (dev, ino) = w.shown;
            let _ = writeln!(
                text,
                "inotify wd:{:x} ino:{ino:x} sdev:{:x} mask:{mask:x} ignored_mask:0 ",
                w.wd,
                kernel_dev(dev)
            );
        }
        text
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A device number as the kernel keeps it: twelve bits of major above twenty of minor.
fn kernel_dev(dev: u64) -> u64 {
    let major = (dev >> 8) & 0xfff;
    let minor = dev & 0xff | (dev >> 12) & 0xf_ff00;
    major << 20 | minor
}
