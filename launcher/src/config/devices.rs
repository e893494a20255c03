//! The spec's `linux.devices`.

use super::{ConfigError, field};
use control::boot::{DeviceKind, DeviceSpec};
use oci_spec::runtime as oci;

/// Permission bits that are not given.
const PERM: u32 = 0o666;

/// Of a spec's `linux`.
pub(super) fn convert(linux: &oci::Linux) -> Result<Vec<DeviceSpec>, ConfigError> {
    linux.devices().iter().flatten().map(device).collect()
}

fn device(device: &oci::LinuxDevice) -> Result<DeviceSpec, ConfigError> {
    let path = super::process::text("linux.devices.path", device.path())?;
    let bad = |problem: &str| field("linux.devices", format!("{path}: {problem}"));
    if !path.starts_with('/') || path.ends_with('/') || path.split('/').any(|p| p == "..") {
        return Err(bad("the path must be absolute, and name a file"));
    }
    let number = |n: i64| u32::try_from(n).map_err(|_| bad("a number of a device is 0 or above"));
    let numbers = || Ok::<_, ConfigError>((number(device.major())?, number(device.minor())?));
    let kind = match device.typ() {
        oci::LinuxDeviceType::C | oci::LinuxDeviceType::U => {
            let (major, minor) = numbers()?;
            DeviceKind::Char(major, minor)
        }
        oci::LinuxDeviceType::B => {
            let (major, minor) = numbers()?;
            DeviceKind::Block(major, minor)
        }
        oci::LinuxDeviceType::P => DeviceKind::Fifo,
        oci::LinuxDeviceType::A => return Err(bad("type `a` is for rules, and no file has it")),
    };
    Ok(DeviceSpec {
        perm: device.file_mode().unwrap_or(PERM) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        kind,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(device: &str) -> Result<Vec<DeviceSpec>, ConfigError> {
        let text = format!(r#"{{"devices":[{device}]}}"#);
        convert(&serde_json::from_str::<oci::Linux>(&text).unwrap())
    }

    #[test]
    fn a_device_is_its_numbers_and_its_owner() {
        let one = r#"{"path":"/dev/x","type":"c","major":10,"minor":229,"fileMode":432,"uid":5}"#;
        let expected = DeviceSpec {
            path: "/dev/x".to_owned(),
            kind: DeviceKind::Char(10, 229),
            perm: 0o660,
            uid: 5,
            gid: 0,
        };
        assert_eq!(read(one).unwrap(), [expected]);
        let fifo = read(r#"{"path":"/f","type":"p","major":0,"minor":0}"#).unwrap();
        assert_eq!((fifo[0].kind, fifo[0].perm), (DeviceKind::Fifo, 0o666));
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for bad in [
            r#"{"path":"dev/x","type":"c","major":1,"minor":1}"#,
            r#"{"path":"/dev/../x","type":"c","major":1,"minor":1}"#,
            r#"{"path":"/dev/x","type":"b","major":-1,"minor":1}"#,
            r#"{"path":"/dev/x","type":"a","major":1,"minor":1}"#,
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("linux.devices"), "{error}");
        }
    }
}
