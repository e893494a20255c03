//! The spec's `linux.resources.blockIO`.

use super::{ConfigError, field};
use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// What a weight may be (the spec's words).
const WEIGHTS: RangeInclusive<u16> = 10..=1000;
/// A device number of Linux has twelve bits and twenty.
const MAX_MAJOR: i64 = (1 << 12) - 1;
const MAX_MINOR: i64 = (1 << 20) - 1;

/// Shares of, and limits on, what is read from and written to block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIo {
    /// Against other groups, 10 to 1000; 0 is an ordinary one.
    pub weight: Option<u16>,
    /// The same for single devices.
    #[serde(with = "pairs")]
    pub weights: BTreeMap<Device, u16>,
    /// Most in a second; 0 is no limit.
    #[serde(with = "pairs")]
    pub rates: BTreeMap<(Rate, Device), u64>,
}

/// JSON has no keys but text.
mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(from: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let pairs = Vec::<(K, V)>::deserialize(from)?;
        Ok(pairs.into_iter().collect())
    }
}

/// A block device of the host's, major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device(pub u32, pub u32);

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rate {
    /// Bytes that are read.
    ReadBytes,
    /// Bytes that are written.
    WriteBytes,
    /// Reads.
    Reads,
    /// Writes.
    Writes,
}

impl Rate {
    /// The field.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Rate::ReadBytes => "blockIO.throttleReadBpsDevice",
            Rate::WriteBytes => "blockIO.throttleWriteBpsDevice",
            Rate::Reads => "blockIO.throttleReadIOPSDevice",
            Rate::Writes => "blockIO.throttleWriteIOPSDevice",
        }
    }
}

impl BlockIo {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.weight.is_none() && self.weights.is_empty() && self.rates.is_empty()
    }

    /// Whether it asks for more than that there be no limits.
    pub(crate) fn limits(&self) -> bool {
        self.weight.is_some_and(|n| n > 0)
            || self.weights.values().any(|n| *n > 0)
            || self.rates.values().any(|n| *n > 0)
    }

    /// What it is once `asked` was done.
    pub(super) fn changed_by(&self, asked: &BlockIo) -> BlockIo {
        let mut new = self.clone();
        new.weight = asked.weight.or(self.weight);
        new.weights.extend(&asked.weights);
        new.rates.extend(&asked.rates);
        new
    }

    /// What is to be asked to have this again after `asked` was done.
    pub(super) fn in_place_of(&self, asked: &BlockIo) -> BlockIo {
        let weights = asked.weights.keys();
        let rates = asked.rates.keys();
        BlockIo {
            weight: asked.weight.map(|_| self.weight.unwrap_or(0)),
            weights: weights
                .map(|d| (*d, self.weights.get(d).copied().unwrap_or(0)))
                .collect(),
            rates: rates
                .map(|r| (*r, self.rates.get(r).copied().unwrap_or(0)))
                .collect(),
        }
    }

    /// Checks and converts; what is not applied is added to `ignored`.
    pub(super) fn read(
        block: &oci::LinuxBlockIo,
        ignored: &mut Vec<&'static str>,
    ) -> Result<BlockIo, ConfigError> {
        let mut asked = BlockIo {
            weight: block.weight().filter(|n| *n != 0),
            ..BlockIo::default()
        };
        if let Some(bad) = asked.weight.filter(|n| !WEIGHTS.contains(n)) {
            return Err(weight("linux.resources.blockIO.weight", bad));
        }
        let mut leaves = block.leaf_weight();
        for one in block.weight_device().iter().flatten() {
            const FIELD: &str = "linux.resources.blockIO.weightDevice";
            let device = device(FIELD, one.major(), one.minor())?;
            leaves = leaves.or(one.leaf_weight());
            if let Some(n) = one.weight() {
                if n != 0 && !WEIGHTS.contains(&n) {
                    return Err(weight(FIELD, n));
                }
                asked.weights.insert(device, n);
            }
        }
        for (rate, name, list) in [
            (
                Rate::ReadBytes,
                "linux.resources.blockIO.throttleReadBpsDevice",
                block.throttle_read_bps_device(),
            ),
            (
                Rate::WriteBytes,
                "linux.resources.blockIO.throttleWriteBpsDevice",
                block.throttle_write_bps_device(),
            ),
            (
                Rate::Reads,
                "linux.resources.blockIO.throttleReadIOPSDevice",
                block.throttle_read_iops_device(),
            ),
            (
                Rate::Writes,
                "linux.resources.blockIO.throttleWriteIOPSDevice",
                block.throttle_write_iops_device(),
            ),
        ] {
            for one in list.iter().flatten() {
                let device = device(name, one.major(), one.minor())?;
                asked.rates.insert((rate, device), one.rate());
            }
        }
        // It went with the CFQ scheduler, in Linux 5.0.
        if leaves.is_some_and(|n| n != 0) {
            ignored.push("blockIO.leafWeight");
        }
        Ok(asked)
    }
}

fn weight(name: &'static str, bad: u16) -> ConfigError {
    let (least, most) = (WEIGHTS.start(), WEIGHTS.end());
    field(
        name,
        format!("{bad} is no weight; {least} to {most} are possible"),
    )
}

fn device(name: &'static str, major: i64, minor: i64) -> Result<Device, ConfigError> {
    let number = |n: i64, most: i64| u32::try_from(n).ok().filter(|_| n <= most);
    match (number(major, MAX_MAJOR), number(minor, MAX_MINOR)) {
        (Some(major), Some(minor)) => Ok(Device(major, minor)),
        _ => Err(field(
            name,
            format!("{major}:{minor} is no device number; at most {MAX_MAJOR}:{MAX_MINOR} is"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(BlockIo, Vec<&'static str>), ConfigError> {
        let mut ignored = Vec::new();
        let block = serde_json::from_str(text).unwrap();
        BlockIo::read(&block, &mut ignored).map(|asked| (asked, ignored))
    }

    #[test]
    fn what_is_asked_is_read() {
        let (asked, ignored) = read(
            r#"{"weight":100,"leafWeight":200,"weightDevice":[{"major":8,"minor":16,"weight":50}],
                "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}"#,
        )
        .unwrap();
        assert_eq!(asked.weight, Some(100));
        assert_eq!(asked.weights, [(Device(8, 16), 50)].into());
        let rates = [
            ((Rate::ReadBytes, Device(8, 0)), 1000),
            ((Rate::Writes, Device(8, 0)), 0),
        ];
        assert_eq!(asked.rates, rates.into());
        assert_eq!(ignored, ["blockIO.leafWeight"]);
        assert!(asked.limits());
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(serde_json::from_str::<BlockIo>(&text).unwrap(), asked);
        let (none, _) = read(r#"{"weight":0}"#).unwrap();
        assert!(none.is_empty() && !none.limits());
    }

    #[test]
    fn a_change_is_put_back_to_what_was() {
        let (old, _) =
            read(r#"{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}]}"#).unwrap();
        let (asked, _) = read(
            r#"{"weight":100,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7},
                {"major":8,"minor":1,"rate":9}]}"#,
        )
        .unwrap();
        let new = old.changed_by(&asked);
        assert_eq!(new.weight, Some(100));
        let of = |block: &BlockIo, minor| {
            let rate = block.rates.get(&(Rate::ReadBytes, Device(8, minor)));
            rate.copied()
        };
        assert_eq!((of(&new, 0), of(&new, 1)), (Some(7), Some(9)));
        let back = old.in_place_of(&asked);
        assert_eq!(back.weight, Some(0));
        assert_eq!((of(&back, 0), of(&back, 1)), (Some(1000), Some(0)));
    }

    #[test]
    fn impossible_numbers_are_told() {
        for bad in [
            r#"{"weight":9}"#,
            r#"{"weight":1001}"#,
            r#"{"weightDevice":[{"major":8,"minor":0,"weight":5}]}"#,
            r#"{"weightDevice":[{"major":-1,"minor":0,"weight":50}]}"#,
            r#"{"throttleReadBpsDevice":[{"major":4096,"minor":0,"rate":1}]}"#,
            r#"{"throttleWriteBpsDevice":[{"major":8,"minor":1048576,"rate":1}]}"#,
            r#"{"throttleReadIOPSDevice":[{"major":9223372036854775807,"minor":0,"rate":1}]}"#,
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("blockIO"), "{error}");
        }
    }
}
