//! Whether a container starts a sandbox or joins one: what containerd and CRI-O say in annotations.

use super::{ConfigError, field};
use crate::id::ContainerId;
use control::message::Shared;
use oci_spec::runtime::{self as oci, LinuxNamespaceType as Type};
use std::collections::BTreeMap;

/// For containerd and for CRI-O, who say the same by other names: whether it is the pod's sandbox
/// or a further container, and the sandbox's id.
const NAMES: [(&str, &str); 2] = [
    (
        "io.kubernetes.cri.container-type",
        "io.kubernetes.cri.sandbox-id",
    ),
    (
        "io.kubernetes.cri-o.ContainerType",
        "io.kubernetes.cri-o.SandboxID",
    ),
];

/// The sandbox that a container joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joins {
    /// Its id: that of its root container.
    pub sandbox: ContainerId,
    /// Which of its namespaces the container is in.
    pub shared: Shared,
}

/// What `annotations` say of it; none starts a sandbox.
pub(super) fn joins(
    annotations: &BTreeMap<String, String>,
    linux: &oci::Linux,
) -> Result<Option<Joins>, ConfigError> {
    let said = NAMES
        .iter()
        .find_map(|(kind, id)| Some((*kind, annotations.get(*kind)?, *id)));
    let Some((name, kind, id)) = said else {
        return Ok(None);
    };
    match kind.as_str() {
        "sandbox" => Ok(None),
        "container" => {
            let sandbox = annotations.get(id).ok_or_else(|| {
                let problem = format!("{name} is `container`, and {id}, the sandbox, is missing");
                field("annotations", problem)
            })?;
            let sandbox = ContainerId::new(sandbox)
                .map_err(|e| field("annotations", format!("{id}: {e}")))?;
            let shared = shared(linux);
            Ok(Some(Joins { sandbox, shared }))
        }
        other => {
            let problem = format!("{name} is `{other}`; it can be `sandbox` or `container`");
            Err(field("annotations", problem))
        }
    }
}

/// A namespace that is to be new is the container's own. One with a path, or that is not named at
/// all, is the one that the sandbox has in its place: in a pod there is no other.
fn shared(linux: &oci::Linux) -> Shared {
    let shares = |kind: Type| {
        let mut all = linux.namespaces().iter().flatten();
        !all.any(|n| n.typ() == kind && n.path().is_none())
    };
    Shared {
        pid: shares(Type::Pid),
        ipc: shares(Type::Ipc),
        uts: shares(Type::Uts),
        network: shares(Type::Network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(namespaces: &str) -> oci::Linux {
        serde_json::from_str(&format!(r#"{{"namespaces":[{namespaces}]}}"#)).unwrap()
    }

    fn said(pairs: &[(&str, &str)]) -> Result<Option<Joins>, ConfigError> {
        let pairs = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        joins(&pairs.collect(), &linux(r#"{"type":"pid"}"#))
    }

    #[test]
    fn both_say_it_in_their_own_words() {
        for (kind, id) in NAMES {
            assert_eq!(said(&[(kind, "sandbox"), (id, "s")]).unwrap(), None);
            let joins = said(&[(kind, "container"), (id, "s")]).unwrap().unwrap();
            assert_eq!(joins.sandbox.as_str(), "s");
            for (pairs, word) in [
                (&[(kind, "container")] as &[_], id),
                (&[(kind, "container"), (id, "../s")], id),
                (&[(kind, "pod"), (id, "s")], kind),
            ] {
                let error = said(pairs).unwrap_err().to_string();
                assert!(error.contains(word), "{error}");
            }
        }
        assert_eq!(said(&[]).unwrap(), None);
    }

    #[test]
    fn new_namespaces_are_its_own() {
        let some = linux(
            r#"{"type":"pid"},{"type":"ipc","path":"/proc/1/ns/ipc"},{"type":"uts"},
               {"type":"mount"}"#,
        );
        let want = Shared {
            ipc: true,
            network: true,
            ..Shared::default()
        };
        assert_eq!(shared(&some), want);
    }
}
