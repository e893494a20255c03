//! Descriptor tables.

use crate::{File, dnotify, locks};
use abi::Errno;
use ctx::{Ctx, SysErr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sync::{RwLock, ranks};

/// The descriptors of a process, or of processes that share them (`CLONE_FILES`).
#[derive(Debug)]
pub struct FdTable {
    /// The owner of POSIX locks.
    id: u64,
    table: RwLock<Table, ranks::Fds>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    slots: Vec<Option<Slot>>,
    /// No free slot lies below.
    free_from: usize,
}

#[derive(Clone, Debug)]
struct Slot {
    file: Arc<File>,
    cloexec: bool,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Default for FdTable {
    fn default() -> Self {
        FdTable::from_table(Table::default())
    }
}

impl FdTable {
    /// An empty table.
    pub fn new() -> Arc<FdTable> {
        Arc::new(FdTable::default())
    }

    fn from_table(table: Table) -> FdTable {
        FdTable {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            table: RwLock::new(table),
        }
    }

    /// A number of its own: the owner of POSIX locks.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How many descriptors are open.
    pub fn count(&self) -> usize {
        self.table.read().slots.iter().flatten().count()
    }

    /// The file behind `fd`; `EBADF` where there is none and for `O_PATH` descriptors.
    #[inline]
    pub fn get(&self, fd: i32) -> Result<Arc<File>, Errno> {
        let file = self.get_path_ok(fd)?;
        if file.is_path_only() {
            Err(Errno::EBADF)
        } else {
            Ok(file)
        }
    }

    /// The file behind `fd`, `O_PATH` or not.
    #[inline]
    pub fn get_path_ok(&self, fd: i32) -> Result<Arc<File>, Errno> {
        let at = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        match self.table.read().slots.get(at) {
            Some(Some(slot)) => Ok(slot.file.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    /// Whether `fd` is a descriptor of `file` still: another thread may have closed it since.
    pub fn holds(&self, fd: i32, file: &File) -> bool {
        self.get_path_ok(fd)
            .is_ok_and(|there| std::ptr::eq(&*there, file))
    }

    /// Gives `file` the lowest free descriptor from `min` on, below `limit` (RLIMIT_NOFILE).
    ///
    /// # Errors
    /// `EMFILE` where there is none.
    pub fn insert(
        &self,
        file: Arc<File>,
        cloexec: bool,
        min: i32,
        limit: u64,
    ) -> Result<i32, Errno> {
        let mut slot = Some(Slot { file, cloexec });
        // What finds no place is dropped by us, after the lock.
        self.table.write().insert(&mut slot, min, limit)
    }

    /// Gives two files their descriptors, both or none (pipe2, socketpair).
    pub fn insert_two(
        &self,
        files: [Arc<File>; 2],
        cloexec: bool,
        limit: u64,
    ) -> Result<[i32; 2], Errno> {
        let [a, b] = files;
        let mut a = Some(Slot { file: a, cloexec });
        let mut b = Some(Slot { file: b, cloexec });
        let mut table = self.table.write();
        let first = table.insert(&mut a, 0, limit)?;
        let second = table.insert(&mut b, 0, limit);
        match second {
            Ok(second) => Ok([first, second]),
            Err(e) => {
                let gone = table.take(first as usize);
                drop(table);
                drop(gone);
                Err(e)
            }
        }
    }

    /// Makes `fd` refer to `file`, closing what it was; `fd`.
    ///
    /// # Errors
    /// `EBADF` where it is not below `limit`.
    pub fn put_at(
        &self,
        cx: &dyn Ctx,
        fd: i32,
        file: Arc<File>,
        cloexec: bool,
        limit: u64,
    ) -> Result<i32, Errno> {
        if let Some(gone) = self.replace(fd, file, cloexec, limit)? {
            let _ = self.closed(cx, gone);
        }
        Ok(fd)
    }

    /// Makes `new` refer to what `old` does (dup2, dup3), closing what it was; `old == new` is
    /// the caller's to treat.
    ///
    /// # Errors
    /// `EBADF` where `old` is not open or `new` not below `limit`.
    pub fn dup_to(
        &self,
        cx: &dyn Ctx,
        old: i32,
        new: i32,
        cloexec: bool,
        limit: u64,
    ) -> Result<i32, Errno> {
        self.put_at(cx, new, self.get_path_ok(old)?, cloexec, limit)
    }

    /// Puts `file` at `fd`, and returns what was there.
    ///
    /// # Errors
    /// `EBADF` where `fd` is not below `limit`.
    pub fn replace(
        &self,
        fd: i32,
        file: Arc<File>,
        cloexec: bool,
        limit: u64,
    ) -> Result<Option<Arc<File>>, Errno> {
        let at = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if at as u64 >= limit.min(sysctl::NR_OPEN.size() as u64) {
            return Err(Errno::EBADF);
        }
        let mut table = self.table.write();
        if table.slots.len() <= at {
            table.slots.resize_with(at + 1, || None);
        }
        let old = table
            .slots
            .get_mut(at)
            .and_then(|s| s.replace(Slot { file, cloexec }));
        Ok(old.map(|s| s.file))
    }

    /// close(2). The descriptor is free whatever the result.
    ///
    /// # Errors
    /// `EBADF` where it is not open; what the file's flush says.
    pub fn close(&self, cx: &dyn Ctx, fd: i32) -> Result<(), SysErr> {
        let at = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let gone = self.table.write().take(at).ok_or(Errno::EBADF)?;
        Ok(self.closed(cx, gone.file)?)
    }

    /// close_range(2): closes `first` to `last`, or marks them close-on-exec.
    pub fn close_range(&self, cx: &dyn Ctx, first: u32, last: u32, cloexec: bool) {
        self.close_where(cx, |fd, slot| {
            let inside = (first as usize..=last as usize).contains(&fd);
            if inside && cloexec {
                slot.cloexec = true;
                return false;
            }
            inside
        });
    }

    /// Closes what is marked close-on-exec.
    pub fn close_on_exec(&self, cx: &dyn Ctx) {
        self.close_where(cx, |_, slot| slot.cloexec);
    }

    /// Closes everything: the process ends. Only the last user of a table may do so.
    pub fn close_all(&self, cx: &dyn Ctx) {
        self.close_where(cx, |_, _| true);
    }

    fn close_where(&self, cx: &dyn Ctx, mut which: impl FnMut(usize, &mut Slot) -> bool) {
        let mut gone = Vec::new();
        let mut table = self.table.write();
        let mut first_free = table.slots.len();
        for (fd, place) in table.slots.iter_mut().enumerate() {
            if place.as_mut().is_some_and(|slot| which(fd, slot)) {
                gone.extend(place.take());
                first_free = first_free.min(fd);
            }
        }
        table.free_from = table.free_from.min(first_free);
        drop(table);
        for slot in gone {
            let _ = self.closed(cx, slot.file);
        }
    }

    /// What follows when a descriptor of `file` has gone.
    fn closed(&self, cx: &dyn Ctx, file: Arc<File>) -> Result<(), Errno> {
        if file.is_path_only() {
            return Ok(());
        }
        dnotify::closed(self.id, &file);
        locks::descriptor_closed(self.id, &file);
        file.ops().flush(cx)
    }

    /// Whether `fd` is closed by exec (F_GETFD).
    pub fn cloexec(&self, fd: i32) -> Result<bool, Errno> {
        let at = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        match self.table.read().slots.get(at) {
            Some(Some(slot)) => Ok(slot.cloexec),
            _ => Err(Errno::EBADF),
        }
    }

    /// Sets whether `fd` is closed by exec (F_SETFD).
    pub fn set_cloexec(&self, fd: i32, cloexec: bool) -> Result<(), Errno> {
        let at = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        match self.table.write().slots.get_mut(at) {
            Some(Some(slot)) => slot.cloexec = cloexec,
            _ => return Err(Errno::EBADF),
        }
        Ok(())
    }

    /// A copy: fork(2), `CLOSE_RANGE_UNSHARE`.
    pub fn fork(&self) -> Arc<FdTable> {
        Arc::new(FdTable::from_table(self.table.read().clone()))
    }

    /// All open descriptors in order.
    pub fn list(&self) -> Vec<(i32, Arc<File>)> {
        let table = self.table.read();
        let open = table.slots.iter().enumerate();
        open.filter_map(|(fd, s)| Some((fd as i32, s.as_ref()?.file.clone())))
            .collect()
    }

    /// How many descriptors there is room for now (`FDSize` of /proc/PID/status).
    pub fn size(&self) -> usize {
        self.table.read().slots.len().next_multiple_of(64).max(64)
    }
}

impl Table {
    /// Takes `slot` where there is a place for it.
    fn insert(&mut self, slot: &mut Option<Slot>, min: i32, limit: u64) -> Result<i32, Errno> {
        let min = usize::try_from(min).map_err(|_| Errno::EINVAL)?;
        let from = min.max(self.free_from);
        let at = (from..self.slots.len())
            .find(|fd| self.slots[*fd].is_none())
            .unwrap_or(self.slots.len().max(from));
        if at as u64 >= limit.min(sysctl::NR_OPEN.size() as u64) {
            return Err(Errno::EMFILE);
        }
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        self.slots[at] = slot.take();
        if min <= self.free_from {
            self.free_from = at + 1;
        }
        Ok(at as i32)
    }

    fn take(&mut self, at: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(at)?.take();
        if slot.is_some() {
            self.free_from = self.free_from.min(at);
        }
        slot
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        for slot in self.table.get_mut().slots.drain(..).flatten() {
            locks::descriptor_closed(self.id, &slot.file);
            dnotify::closed(self.id, &slot.file);
        }
    }
}
