//! /sys of a machine with CPUs and without devices. There are no NUMA nodes, as the calls about
//! them say too.

use crate::tree::Dir;
use std::sync::Arc;
use time::Clocks;
use vfs::Inode;

/// `SYSFS_MAGIC`
const MAGIC: i64 = 0x6265_6572;
/// What every file of sysfs says its size is.
const FILE_SIZE: u64 = 4096;

/// What the guest sees as its machine.
#[derive(Clone)]
pub struct Machine {
    /// How many virtual CPUs there can be, at least one.
    pub possible_cpus: u32,
    /// How many of them are there.
    pub cpus: Arc<dyn Fn() -> u32 + Send + Sync>,
    /// Whether memory comes in huge pages when a program asks for that.
    pub huge_pages: bool,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Machine(cpus {} of {})",
            (self.cpus)(),
            self.possible_cpus
        )
    }
}

impl Machine {
    /// The root of sysfs.
    pub fn sysfs(&self, clocks: &Clocks) -> Arc<dyn Inode> {
        let mut root = Dir::default();
        for empty in [
            "block",
            "bus",
            "class/block",
            "class/net",
            "class/tty",
            "dev/block",
            "dev/char",
            "devices/virtual",
            "firmware",
            "fs/cgroup",
            "kernel/security",
            "module",
            "power",
        ] {
            root.dir(empty);
        }
        self.cpu(root.dir("devices/system/cpu"));
        for cpu in 0..self.possible_cpus {
            let target = format!("../../../devices/system/cpu/cpu{cpu}");
            root.dir("bus/cpu/devices")
                .link(&format!("cpu{cpu}"), target);
        }
        root.dir("devices/system/clocksource/clocksource0")
            .text("current_clocksource", "tsc\n")
            .text("available_clocksource", "tsc \n");
        let huge = if self.huge_pages {
            [
                "always [madvise] never\n",
                "always defer defer+madvise [madvise] never\n",
            ]
        } else {
            [
                "always madvise [never]\n",
                "always defer defer+madvise madvise [never]\n",
            ]
        };
        root.dir("kernel/mm/transparent_hugepage")
            .text("enabled", huge[0])
            .text("defrag", huge[1])
            .text(
                "shmem_enabled",
                "always within_size advise [never] deny force\n",
            )
            .text("use_zero_page", "0\n")
            .text("hpage_pmd_size", "2097152\n");
        root.mount(MAGIC, FILE_SIZE, clocks)
    }

    fn cpu(&self, dir: &mut Dir) {
        let all = list(0..self.possible_cpus);
        dir.text("possible", all.clone())
            .text("present", all)
            .show("online", self.shows(|cpus, _| list(0..cpus)))
            .show("offline", self.shows(|cpus, all| list(cpus..all)))
            .text("isolated", "\n")
            .text("kernel_max", "8191\n");
        dir.dir("smt")
            .text("active", "0\n")
            .text("control", "notsupported\n");
        let every = || self.shows(|cpus, all| mask(all, |c| c < cpus));
        let list_of_all = || self.shows(|cpus, _| list(0..cpus));
        for cpu in 0..self.possible_cpus {
            let mine = mask(self.possible_cpus, |c| c == cpu);
            // One package of cores with one thread each.
            dir.dir(&format!("cpu{cpu}/topology"))
                .text("core_id", format!("{cpu}\n"))
                .text("die_id", "0\n")
                .text("physical_package_id", "0\n")
                .text("thread_siblings", mine.clone())
                .text("thread_siblings_list", format!("{cpu}\n"))
                .text("core_cpus", mine)
                .text("core_cpus_list", format!("{cpu}\n"))
                .show("core_siblings", every())
                .show("core_siblings_list", list_of_all())
                .show("die_cpus", every())
                .show("die_cpus_list", list_of_all())
                .show("package_cpus", every())
                .show("package_cpus_list", list_of_all());
        }
    }

    /// A text made of how many CPUs are there, and how many there can be.
    fn shows(
        &self,
        text: impl Fn(u32, u32) -> String + Send + Sync + 'static,
    ) -> impl Fn() -> String + Send + Sync + 'static {
        let (cpus, possible) = (self.cpus.clone(), self.possible_cpus);
        move || text(cpus(), possible)
    }
}

/// CPUs in a row, as sysfs lists them.
fn list(cpus: std::ops::Range<u32>) -> String {
    match cpus.len() {
        0 => "\n".into(),
        1 => format!("{}\n", cpus.start),
        _ => format!("{}-{}\n", cpus.start, cpus.end - 1),
    }
}

/// CPUs as a mask: words of 32 bits, the highest first and no wider than it need be.
fn mask(cpus: u32, has: impl Fn(u32) -> bool) -> String {
    let words = cpus.div_ceil(32).max(1);
    let word = |w: u32| {
        (0..32)
            .filter(|bit| w * 32 + bit < cpus && has(w * 32 + bit))
            .fold(0u32, |sum, bit| sum | 1 << bit)
    };
    let mut text = String::new();
    for w in (0..words).rev() {
        let bits = if w == words - 1 { cpus - w * 32 } else { 32 };
        let width = bits.div_ceil(4) as usize;
        text.push_str(&format!("{:0width$x}", word(w)));
        text.push(if w == 0 { '\n' } else { ',' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_lists_are_as_wide_as_the_machine() {
        assert_eq!((list(0..1), list(0..2)), ("0\n".into(), "0-1\n".into()));
        assert_eq!((list(2..2), list(3..4)), ("\n".into(), "3\n".into()));
        assert_eq!(mask(2, |_| true), "3\n");
        assert_eq!(mask(8, |c| c == 1), "02\n");
        assert_eq!(mask(36, |c| c == 33), "2,00000000\n");
        assert_eq!(mask(64, |_| true), "ffffffff,ffffffff\n");
    }
}
