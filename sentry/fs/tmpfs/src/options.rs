//! Mount options.

use abi::Errno;
use abi::page::PAGE_SIZE;

/// What a tmpfs is mounted with (tmpfs(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Bytes that files may take; `None` is no limit.
    pub size: Option<u64>,
    /// Inodes; `None` is no limit.
    pub inodes: Option<u64>,
    /// Permission bits of the root; 1777 where not given.
    pub mode: Option<u32>,
    /// Owner of the root, where given.
    pub uid: Option<u32>,
    /// Group of the root, where given.
    pub gid: Option<u32>,
    /// Pages and inodes of an instance that is mounted without saying.
    pub usual: Option<u64>,
}

impl Options {
    /// From mount(2)'s data, `size=64m,mode=755`. A percentage is one of `memory` bytes, and so
    /// is half of it where no size is given.
    ///
    /// # Errors
    /// `EINVAL` for what is not known or not a number.
    pub fn parse(text: &str, memory: u64) -> Result<Options, Errno> {
        let usual = no_limit(memory / PAGE_SIZE / 2);
        let mut options = Options {
            size: usual.map(|pages| pages * PAGE_SIZE),
            inodes: usual,
            usual,
            ..Options::default()
        };
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "size" => options.size = no_limit(bytes(value, memory)?),
                "nr_blocks" => {
                    options.size = no_limit(bytes(value, memory)?.saturating_mul(PAGE_SIZE))
                }
                "nr_inodes" => options.inodes = no_limit(bytes(value, memory)?),
                "mode" => options.mode = Some(octal(value)? & 0o7777),
                "uid" => options.uid = Some(value.parse().map_err(|_| Errno::EINVAL)?),
                "gid" => options.gid = Some(value.parse().map_err(|_| Errno::EINVAL)?),
                // Said of memory that we place ourselves, or of no effect on 64 bits.
                "huge" | "mpol" | "noswap" | "inode32" | "inode64" | "rw" | "ro" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }

    /// As /proc/mounts shows them.
    pub fn text(&self) -> String {
        let mut parts = Vec::new();
        let usual = self.usual;
        if let Some(size) = self.size.filter(|s| usual != Some(s / PAGE_SIZE)) {
            parts.push(format!("size={}k", size / 1024));
        }
        if let Some(inodes) = self.inodes.filter(|i| usual != Some(*i)) {
            parts.push(format!("nr_inodes={inodes}"));
        }
        if let Some(mode) = self.mode.filter(|m| *m != 0o1777) {
            parts.push(format!("mode={mode:03o}"));
        }
        for (name, id) in [("uid", self.uid), ("gid", self.gid)] {
            if let Some(id) = id.filter(|id| *id != 0) {
                parts.push(format!("{name}={id}"));
            }
        }
        parts.join(",")
    }
}

/// Zero stands for no limit.
fn no_limit(n: u64) -> Option<u64> {
    (n != 0).then_some(n)
}

fn octal(s: &str) -> Result<u32, Errno> {
    u32::from_str_radix(s, 8).map_err(|_| Errno::EINVAL)
}

fn bytes(s: &str, memory: u64) -> Result<u64, Errno> {
    if let Some(percent) = s.strip_suffix('%') {
        let percent: u64 = percent.parse().map_err(|_| Errno::EINVAL)?;
        return Ok((memory / 100).saturating_mul(percent));
    }
    let digits = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    let (number, suffix) = s.split_at(digits);
    let shift = match suffix {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return Err(Errno::EINVAL),
    };
    let number: u64 = number.parse().map_err(|_| Errno::EINVAL)?;
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_shown() {
        let o = Options::parse("size=64m,mode=0755,uid=5,inode64", 0).unwrap();
        assert_eq!(o.size, Some(64 << 20));
        assert_eq!(o.text(), "size=65536k,mode=755,uid=5");
        assert_eq!(Options::parse("size=50%", 1000).unwrap().size, Some(500));
        assert_eq!(Options::parse("size=0", 0).unwrap().size, None);
        let usual = Options::parse("mode=700", 1 << 20).unwrap();
        assert_eq!((usual.size, usual.inodes), (Some(512 << 10), Some(128)));
        assert_eq!(usual.text(), "mode=700");
        for bad in ["size=x", "mode=9", "what=1", "size=99999999999g"] {
            assert_eq!(Options::parse(bad, 0), Err(Errno::EINVAL), "{bad}");
        }
    }
}
