//! `features`: what of the OCI runtime specification is honoured (its features.md).

use crate::Build;
use crate::lifecycle::print;
use crate::setup::Failure;
use launcher::config;
use serde_json::json;

/// Prints them.
pub(crate) fn run(build: &Build) -> Result<i32, Failure> {
    let capabilities = config::capability_names();
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": launcher::OCI_VERSION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
            "poststop",
        ],
        "mountOptions": config::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {
                "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false,
            },
            "seccomp": {
                "enabled": true,
                "actions": config::ACTIONS,
                "operators": config::OPERATORS,
                "archs": config::ARCHITECTURES,
                "knownFlags": config::FLAGS,
                "supportedFlags": config::FLAGS,
            },
            "apparmor": {"enabled": false},
            "selinux": {"enabled": false},
            "intelRdt": {"enabled": false},
            "memoryPolicy": {"modes": ["MPOL_DEFAULT"], "flags": []},
            "netDevices": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": false}},
        },
        "annotations": {"org.ringfence.version": build.version},
        "potentiallyUnsafeConfigAnnotations": [],
    });
    print(&format!("{features:#}\n"));
    Ok(0)
}
