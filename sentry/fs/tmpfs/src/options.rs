//! Mount options.

use abi::Errno;
use abi::page::PAGE_SIZE;
use vfs::NewFile;

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
    /// It is never swapped out, which nothing here is.
    pub noswap: bool,
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
                "size" => options.size = no_limit(whole_pages(bytes(value, memory)?)?),
                "nr_blocks" => {
                    options.size = no_limit(bytes(value, memory)?.saturating_mul(PAGE_SIZE))
                }
                "nr_inodes" => options.inodes = no_limit(bytes(value, memory)?),
                "mode" => options.mode = Some(octal(value)? & 0o7777),
                "uid" => options.uid = Some(id(value)?),
                "gid" => options.gid = Some(id(value)?),
                // Said of memory that we place ourselves, or of no effect on 64 bits.
                "noswap" => options.noswap = true,
                "huge" | "mpol" | "inode32" | "inode64" | "rw" | "ro" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }

    /// What a remount changes: limits that are said, where `u64::MAX` stands for none.
    ///
    /// # Errors
    /// As [`Options::parse`].
    pub(crate) fn parse_changes(text: &str, memory: u64) -> Result<Options, Errno> {
        let all = Options::parse(text, memory)?;
        let said = |names: &[&str]| {
            let mut keys = text
                .split(',')
                .map(|o| o.split_once('=').map_or(o, |(k, _)| k));
            keys.any(|k| names.contains(&k))
        };
        let change =
            |limit: Option<u64>, names: &[&str]| said(names).then_some(limit.unwrap_or(u64::MAX));
        Ok(Options {
            size: change(all.size, &["size", "nr_blocks"]),
            inodes: change(all.inodes, &["nr_inodes"]),
            ..all
        })
    }

    /// What the root is made with.
    pub(crate) fn root(&self) -> NewFile {
        NewFile {
            perm: self.mode.unwrap_or(0o1777),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        }
    }

    /// As /proc/mounts shows them.
    pub fn text(&self) -> String {
        let mut parts = Vec::new();
        let usual = self.usual;
        if self.size.map(|s| s / PAGE_SIZE) != usual {
            parts.push(format!("size={}k", self.size.unwrap_or(0) / 1024));
        }
        if self.inodes != usual {
            parts.push(format!("nr_inodes={}", self.inodes.unwrap_or(0)));
        }
        if let Some(mode) = self.mode.filter(|m| *m != 0o1777) {
            parts.push(format!("mode={mode:03o}"));
        }
        for (name, id) in [("uid", self.uid), ("gid", self.gid)] {
            if let Some(id) = id.filter(|id| *id != 0) {
                parts.push(format!("{name}={id}"));
            }
        }
        if self.noswap {
            parts.push("noswap".to_owned());
        }
        parts.join(",")
    }
}

/// Zero stands for no limit.
fn no_limit(n: u64) -> Option<u64> {
    (n != 0).then_some(n)
}

fn whole_pages(bytes: u64) -> Result<u64, Errno> {
    bytes
        .checked_next_multiple_of(PAGE_SIZE)
        .ok_or(Errno::EINVAL)
}

/// A number in decimal, in octal after `0`, or in hexadecimal after `0x`.
fn id(s: &str) -> Result<u32, Errno> {
    let parsed = match (s.strip_prefix("0x"), s.strip_prefix('0')) {
        (Some(hex), _) => u32::from_str_radix(hex, 16),
        (None, Some(octal)) if !octal.is_empty() => u32::from_str_radix(octal, 8),
        _ => s.parse(),
    };
    parsed.map_err(|_| Errno::EINVAL)
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
        assert_eq!(Options::parse("size=50%", 16384).unwrap().size, Some(8192));
        assert_eq!(Options::parse("size=0", 0).unwrap().size, None);
        let usual = Options::parse("mode=700", 1 << 20).unwrap();
        assert_eq!((usual.size, usual.inodes), (Some(512 << 10), Some(128)));
        assert_eq!(usual.text(), "mode=700");
        for bad in ["size=x", "mode=9", "what=1", "size=99999999999g"] {
            assert_eq!(Options::parse(bad, 0), Err(Errno::EINVAL), "{bad}");
        }
    }
}
