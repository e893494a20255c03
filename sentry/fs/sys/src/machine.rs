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
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Virtual CPUs, at least one.
    pub cpus: u32,
    /// Whether memory comes in huge pages when a program asks for that.
    pub huge_pages: bool,
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
        for cpu in 0..self.cpus {
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
        let all = list(self.cpus);
        dir.text("online", all.clone())
            .text("possible", all.clone())
            .text("present", all)
            .text("offline", "\n")
            .text("isolated", "\n")
            .text("kernel_max", "8191\n");
        dir.dir("smt")
            .text("active", "0\n")
            .text("control", "notsupported\n");
        for cpu in 0..self.cpus {
            let mine = mask(self.cpus, |c| c == cpu);
            let every = mask(self.cpus, |_| true);
            // One package of cores with one thread each.
            dir.dir(&format!("cpu{cpu}/topology"))
                .text("core_id", format!("{cpu}\n"))
                .text("die_id", "0\n")
                .text("physical_package_id", "0\n")
                .text("thread_siblings", mine.clone())
                .text("thread_siblings_list", format!("{cpu}\n"))
                .text("core_cpus", mine)
                .text("core_cpus_list", format!("{cpu}\n"))
                .text("core_siblings", every.clone())
                .text("core_siblings_list", list(self.cpus))
                .text("die_cpus", every.clone())
                .text("die_cpus_list", list(self.cpus))
                .text("package_cpus", every)
                .text("package_cpus_list", list(self.cpus));
        }
    }
}

/// CPUs from zero, as sysfs lists them.
fn list(cpus: u32) -> String {
    match cpus {
        0 | 1 => "0\n".into(),
        n => format!("0-{}\n", n - 1),
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
        assert_eq!((list(1), list(2)), ("0\n".into(), "0-1\n".into()));
        assert_eq!(mask(2, |_| true), "3\n");
        assert_eq!(mask(8, |c| c == 1), "02\n");
        assert_eq!(mask(36, |c| c == 33), "2,00000000\n");
        assert_eq!(mask(64, |_| true), "ffffffff,ffffffff\n");
    }
}
