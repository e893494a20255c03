//! The platforms linked into this binary.

use crate::Platform;

/// What [`crate::register!`] submits.
pub struct Registration(pub &'static dyn Platform);

inventory::collect!(Registration);

/// Why a look-up failed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryError {
    /// Nothing is linked in.
    #[error(
        "this binary holds no platform; build it with `cargo xtask build --platform ptrace`, or \
         name a platform crate in its `main` (`extern crate platform_x as _;`)"
    )]
    Empty,
    /// Two crates chose the same name.
    #[error(
        "two platforms named `{0}` are linked into this binary; build it with only one of them"
    )]
    Duplicate(&'static str),
    /// No platform of that name.
    #[error("no platform `{name}` in this binary; there are: {have}{hint}")]
    Unknown {
        /// As asked.
        name: String,
        /// The names there are.
        have: String,
        /// A near miss, as a sentence.
        hint: String,
    },
}

/// All platforms, highest priority first, then by name.
pub fn all() -> Result<Vec<&'static dyn Platform>, RegistryError> {
    check(
        inventory::iter::<Registration>
            .into_iter()
            .map(|r| r.0)
            .collect(),
    )
}

/// The platform called `name`.
pub fn lookup(name: &str) -> Result<&'static dyn Platform, RegistryError> {
    pick(all()?, name)
}

fn check(
    mut found: Vec<&'static dyn Platform>,
) -> Result<Vec<&'static dyn Platform>, RegistryError> {
    if found.is_empty() {
        return Err(RegistryError::Empty);
    }
    found.sort_by_key(|p| p.name());
    if let Some(pair) = found.windows(2).find(|w| w[0].name() == w[1].name()) {
        return Err(RegistryError::Duplicate(pair[0].name()));
    }
    found.sort_by(|a, b| b.priority().cmp(&a.priority()).then(a.name().cmp(b.name())));
    Ok(found)
}

fn pick(
    all: Vec<&'static dyn Platform>,
    name: &str,
) -> Result<&'static dyn Platform, RegistryError> {
    if let Some(p) = all.iter().find(|p| p.name() == name) {
        return Ok(*p);
    }
    let have = all.iter().map(|p| p.name()).collect::<Vec<_>>().join(", ");
    let near = all
        .iter()
        .map(|p| p.name())
        .min_by_key(|have| distance(have, name));
    let hint = match near {
        Some(n) if distance(n, name) <= 1 + n.len() / 3 => format!("; did you mean `{n}`?"),
        _ => String::new(),
    };
    Err(RegistryError::Unknown {
        name: name.to_owned(),
        have,
        hint,
    })
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BinaryPermissions, Engine, HostRule, PlatformError, Probe};
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::sync::Arc;

    struct Named(&'static str, u32);

    impl Platform for Named {
        fn name(&self) -> &'static str {
            self.0
        }
        fn summary(&self) -> &'static str {
            ""
        }
        fn priority(&self) -> u32 {
            self.1
        }
        fn probe(&self, _: Option<&Path>) -> Probe {
            Probe::Unavailable {
                reason: String::new(),
                remedy: String::new(),
            }
        }
        fn open_device(&self, _: Option<&Path>) -> Result<Option<OwnedFd>, PlatformError> {
            Ok(None)
        }
        fn requires_current_pidns(&self) -> bool {
            false
        }
        fn binary_permissions(&self) -> BinaryPermissions {
            BinaryPermissions {
                read: false,
                execute: true,
            }
        }
        fn host_rules(&self) -> Vec<HostRule> {
            Vec::new()
        }
        fn boot(&self, _: Option<OwnedFd>) -> Result<Arc<dyn Engine>, PlatformError> {
            Err(PlatformError {
                what: String::new(),
                answer: String::new(),
                remedy: String::new(),
                errno: None,
            })
        }
    }

    static A: Named = Named("ptrace", 1);
    static B: Named = Named("kvm", 2);
    static C: Named = Named("systrap", 2);

    fn three() -> Vec<&'static dyn Platform> {
        check(vec![&A, &B, &C]).expect("they differ")
    }

    #[test]
    fn sorted_by_priority_then_name() {
        let names: Vec<_> = three().iter().map(|p| p.name()).collect();
        assert_eq!(names, ["kvm", "systrap", "ptrace"]);
    }

    #[test]
    fn none_and_two_alike_are_errors_with_advice() {
        let empty = check(Vec::new()).err().expect("an error").to_string();
        assert!(empty.contains("cargo xtask build"), "{empty}");
        assert_eq!(
            check(vec![&A, &B, &A]).err(),
            Some(RegistryError::Duplicate("ptrace"))
        );
    }

    #[test]
    fn an_unknown_name_is_answered_with_what_there_is_and_a_near_miss() {
        let say = |name| pick(three(), name).err().expect("unknown").to_string();
        assert_eq!(
            say("ptrce"),
            "no platform `ptrce` in this binary; there are: kvm, systrap, ptrace; did you mean \
             `ptrace`?"
        );
        assert_eq!(
            say("xyz"),
            "no platform `xyz` in this binary; there are: kvm, systrap, ptrace"
        );
        assert_eq!(pick(three(), "kvm").ok().map(|p| p.name()), Some("kvm"));
    }
}
