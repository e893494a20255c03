//! Block devices: what goes into a group, and what is counted there.
//!
//! Written to the files themselves: cgroups-rs knows version 1's scheduler that Linux dropped.

use super::CgroupError;
use crate::config::{BlockIo, Device, Rate};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Version 1's weights, by scheduler; the first that is there counts. With the weight of a group that
/// was given none.
const WEIGHT_FILES: [(&str, u64); 2] = [("blkio.bfq.weight", 100), ("blkio.weight", 500)];

/// Puts `asked` into the group in `dir`: of version 2, or version 1's blkio; none where there is no
/// such controller.
pub(super) fn apply(dir: Option<&Path>, v2: bool, asked: &BlockIo) -> Result<(), CgroupError> {
    if asked.is_empty() {
        return Ok(());
    }
    let name = if v2 { "io" } else { "blkio" };
    let there = |dir: &&Path| match v2 {
        true => fs::read_to_string(dir.join("cgroup.controllers"))
            .is_ok_and(|list| list.split_ascii_whitespace().any(|c| c == name)),
        false => dir.is_dir(),
    };
    let dir = match dir.filter(there) {
        Some(dir) => dir,
        // Asked for no limit.
        None if !asked.limits() => return Ok(()),
        None => return Err(CgroupError::Controller { name }),
    };
    weights(dir, v2, asked)?;
    for ((rate, device), limit) in &asked.rates {
        let (file, text) = match (v2, rate) {
            (true, _) => {
                let key = match rate {
                    Rate::ReadBytes => "rbps",
                    Rate::WriteBytes => "wbps",
                    Rate::Reads => "riops",
                    Rate::Writes => "wiops",
                };
                let limit = match limit {
                    0 => "max".to_owned(),
                    n => n.to_string(),
                };
                ("io.max", format!("{device} {key}={limit}"))
            }
            (false, Rate::ReadBytes) => throttle("blkio.throttle.read_bps_device", device, limit),
            (false, Rate::WriteBytes) => throttle("blkio.throttle.write_bps_device", device, limit),
            (false, Rate::Reads) => throttle("blkio.throttle.read_iops_device", device, limit),
            (false, Rate::Writes) => throttle("blkio.throttle.write_iops_device", device, limit),
        };
        put(dir, file, rate.name(), &text).or_else(gone(*limit == 0))?;
    }
    Ok(())
}

fn throttle(file: &'static str, device: &Device, limit: &u64) -> (&'static str, String) {
    (file, format!("{device} {limit}"))
}

fn weights(dir: &Path, v2: bool, asked: &BlockIo) -> Result<(), CgroupError> {
    if asked.weight.is_none() && asked.weights.is_empty() {
        return Ok(());
    }
    // With bfq, which takes the spec's numbers, version 2 has a file of its own.
    let bfq = dir.join("io.bfq.weight").exists();
    let found = WEIGHT_FILES.iter().find(|(f, _)| dir.join(f).exists());
    let (file, usual) = match (v2, bfq, found) {
        (true, true, _) => ("io.bfq.weight", 100),
        (true, false, _) if dir.join("io.weight").exists() => ("io.weight", 100),
        (false, _, Some(found)) => *found,
        // Nothing to take away.
        _ if asked.weight.unwrap_or(0) == 0 && asked.weights.iter().all(|(_, w)| *w == 0) => {
            return Ok(());
        }
        (true, false, _) | (false, _, None) => {
            return Err(CgroupError::Set {
                what: "blockIO.weight".to_owned(),
                value: asked.weight.unwrap_or_default().to_string(),
                answer: "no I/O scheduler of this host has weights (bfq would); take it out"
                    .to_owned(),
            });
        }
    };
    let number = |weight: u16| match (weight, file) {
        (0, _) => usual,
        (n, "io.weight") => 1 + (u64::from(n).max(10) - 10) * 9_999 / 990,
        (n, _) => u64::from(n),
    };
    if let Some(weight) = asked.weight {
        put(dir, file, "blockIO.weight", &number(weight).to_string())?;
    }
    for (device, weight) in &asked.weights {
        let value = match weight {
            0 => "default".to_owned(),
            n => number(*n).to_string(),
        };
        let file = match v2 {
            true => file.to_owned(),
            false => format!("{file}_device"),
        };
        let text = format!("{device} {value}");
        put(dir, &file, "blockIO.weightDevice", &text).or_else(gone(*weight == 0))?;
    }
    Ok(())
}

fn put(dir: &Path, file: &str, what: &str, text: &str) -> Result<(), CgroupError> {
    fs::write(dir.join(file), text).map_err(|e| {
        let (what, value) = (what.to_owned(), text.to_owned());
        match e.raw_os_error() {
            Some(libc::ENODEV) => CgroupError::BlockDevice { what, value },
            _ => CgroupError::Set {
                what,
                value,
                answer: format!("{e}, writing {file}"),
            },
        }
    })
}

/// A device that is not there has no limit: to take one away is to do nothing.
fn gone(away: bool) -> impl FnOnce(CgroupError) -> Result<(), CgroupError> {
    move |error| match error {
        CgroupError::BlockDevice { .. } if away => Ok(()),
        error => Err(error),
    }
}

/// A figure of a block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockCount {
    /// Of the device.
    pub major: u32,
    /// Of the device.
    pub minor: u32,
    /// `Read`, `Write`, …
    pub op: String,
    /// How much.
    pub value: u64,
}

/// What a group's processes did to block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// Bytes.
    pub bytes: Vec<BlockCount>,
    /// Reads and writes.
    pub operations: Vec<BlockCount>,
}

/// That of the group in `dirs`, its directory in each hierarchy; nothing where nobody counts.
pub(crate) fn stats(dirs: &[PathBuf]) -> BlockStats {
    let read = |file: &str| {
        let text = dirs.iter().map(|dir| fs::read_to_string(dir.join(file)));
        text.flatten().next()
    };
    if let Some(text) = read("io.stat") {
        return of_version_2(&text);
    }
    let counts = |files: [&str; 2]| {
        let text = files.iter().find_map(|file| read(file));
        text.as_deref().map(of_version_1).unwrap_or_default()
    };
    BlockStats {
        bytes: counts([
            "blkio.throttle.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes",
        ]),
        operations: counts([
            "blkio.throttle.io_serviced_recursive",
            "blkio.throttle.io_serviced",
        ]),
    }
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines such as `8:0 Read 4096`, with a sum at the end.
fn of_version_1(text: &str) -> Vec<BlockCount> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = device(words.next()?)?;
        Some(BlockCount {
            major,
            minor,
            op: words.next()?.to_owned(),
            value: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn of_version_2(text: &str) -> BlockStats {
    let mut stats = BlockStats::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut stats.bytes, "Read"),
                "wbytes" => (&mut stats.bytes, "Write"),
                "rios" => (&mut stats.operations, "Read"),
                "wios" => (&mut stats.operations, "Write"),
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                let op = op.to_owned();
                list.push(BlockCount {
                    major,
                    minor,
                    op,
                    value,
                });
            }
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> BlockIo {
        BlockIo {
            weight: Some(500),
            weights: [(Device(8, 0), 10), (Device(8, 1), 0)].into(),
            rates: [
                ((Rate::ReadBytes, Device(8, 0)), 1 << 40),
                ((Rate::Writes, Device(8, 0)), 0),
            ]
            .into(),
        }
    }

    /// What was written last to each of `files`, which are there before.
    fn written(v2: bool, files: &[&str]) -> Result<Vec<String>, CgroupError> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpu io").unwrap();
        for file in files {
            fs::write(dir.path().join(file), "").unwrap();
        }
        apply(Some(dir.path()), v2, &asked())?;
        let read = |file: &&str| fs::read_to_string(dir.path().join(file)).unwrap();
        Ok(files.iter().map(read).collect())
    }

    #[test]
    fn each_version_gets_its_files() {
        // Plain files keep what was written last.
        assert_eq!(
            written(true, &["io.weight", "io.max"]).unwrap(),
            ["8:1 default", "8:0 wiops=max"]
        );
        assert_eq!(
            written(
                false,
                &[
                    "blkio.bfq.weight",
                    "blkio.bfq.weight_device",
                    "blkio.throttle.read_bps_device",
                    "blkio.throttle.write_iops_device"
                ]
            )
            .unwrap(),
            ["500", "8:1 default", "8:0 1099511627776", "8:0 0"]
        );
        let error = written(false, &[]).unwrap_err().to_string();
        assert!(error.contains("bfq"), "{error}");
    }

    #[test]
    fn version_2_scales_weights() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "io").unwrap();
        for (file, expected) in [
            ("io.weight", ["100", "1", "4950", "10000"]),
            ("io.bfq.weight", ["100", "10", "500", "1000"]),
        ] {
            fs::write(dir.path().join(file), "").unwrap();
            for (weight, expected) in [0, 10, 500, 1000].into_iter().zip(expected) {
                let asked = BlockIo {
                    weight: Some(weight),
                    ..BlockIo::default()
                };
                apply(Some(dir.path()), true, &asked).unwrap();
                let now = fs::read_to_string(dir.path().join(file)).unwrap();
                assert_eq!(now, expected, "{file} {weight}");
            }
        }
    }

    #[test]
    fn a_controller_that_is_missing_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpu").unwrap();
        for (dir, v2) in [(Some(dir.path()), true), (None, true), (None, false)] {
            let error = apply(dir, v2, &asked()).unwrap_err();
            assert!(matches!(error, CgroupError::Controller { .. }), "{error}");
        }
        let none = BlockIo {
            weight: Some(0),
            ..BlockIo::default()
        };
        apply(None, true, &none).unwrap();
    }

    #[test]
    fn counts_are_read_in_both_forms() {
        let one = |op: &str, value| BlockCount {
            major: 8,
            minor: 16,
            op: op.to_owned(),
            value,
        };
        let first = "8:16 Read 4096\n8:16 Write 0\n8:x Read 1\nTotal 4096\n";
        assert_eq!(of_version_1(first), [one("Read", 4096), one("Write", 0)]);
        let second = "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:0\n";
        let stats = of_version_2(second);
        assert_eq!(stats.bytes, [one("Read", 1), one("Write", 2)]);
        assert_eq!(stats.operations, [one("Read", 3), one("Write", 4)]);
    }
}
