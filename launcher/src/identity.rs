//! On whose behalf the launcher acts, and which ids its processes get.
//!
//! | caller | sandbox process | gofer |
//! |---|---|---|
//! | root | own user namespace that maps nobody alone | the host's ids, four capabilities |
//! | root, spec with id mappings | the same | a user namespace with the spec's mappings |
//! | rootless, subordinate ids | own user namespace, nobody is the caller | 0 is the caller, 1… the subordinate ids |
//! | rootless, single id | the same | 0 is the caller; other ids cannot be given to files |

use nix::unistd::{Gid, Uid, User};
use std::path::PathBuf;
use std::process::Command;

/// The user and group called nobody, in our processes' namespaces.
pub const NOBODY: u32 = 65534;

/// The caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Whether namespaces are made without privileges on the host.
    pub rootless: bool,
}

impl Identity {
    /// Who runs this process; `rootless` asks for the unprivileged way even as root.
    pub fn current(rootless: bool) -> Identity {
        let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
        Identity {
            uid,
            gid,
            rootless: rootless || uid != 0,
        }
    }

    /// Where state is kept unless told otherwise.
    pub fn default_state_root(&self) -> PathBuf {
        if !self.rootless {
            return PathBuf::from("/run/ringfence");
        }
        match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(dir) if dir.is_dir() => dir.join("ringfence"),
            _ => PathBuf::from(format!("/tmp/ringfence-{}", self.uid)),
        }
    }
}

/// One line of an id map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The maps of one user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub users: Vec<Extent>,
    /// Groups.
    pub groups: Vec<Extent>,
    /// How they are written.
    pub by: MapWriter,
}

/// Who writes the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapWriter {
    /// The launcher, with privileges over the outside ids.
    Privileged,
    /// The launcher, for the one id that it has; `setgroups` is denied, as the kernel demands.
    Single,
    /// `newuidmap` and `newgidmap`.
    Helpers,
}

/// A namespace's maps could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the id maps of a new user namespace ({what}): {answer}")]
pub struct MapError {
    what: String,
    answer: String,
}

impl IdMaps {
    fn single(inside: (u32, u32), outside: (u32, u32), by: MapWriter) -> IdMaps {
        let one = |inside, outside| {
            vec![Extent {
                inside,
                outside,
                count: 1,
            }]
        };
        IdMaps {
            users: one(inside.0, outside.0),
            groups: one(inside.1, outside.1),
            by,
        }
    }

    /// Of the sandbox process: nobody alone.
    pub fn sandbox(caller: &Identity) -> IdMaps {
        let nobody = (NOBODY, NOBODY);
        if caller.rootless {
            IdMaps::single(nobody, (caller.uid, caller.gid), MapWriter::Single)
        } else {
            IdMaps::single(nobody, nobody, MapWriter::Privileged)
        }
    }

    /// Of a rootless gofer that serves a container: 0 is the caller, and subordinate ids follow
    /// where the host grants them.
    pub fn rootless_container(caller: &Identity) -> IdMaps {
        let mut maps = IdMaps::single((0, 0), (caller.uid, caller.gid), MapWriter::Single);
        let name = User::from_uid(Uid::from_raw(caller.uid))
            .ok()
            .flatten()
            .map(|u| u.name);
        let ranges = |file| subordinate(file, caller.uid, name.as_deref());
        let (users, groups) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
        if !users.is_empty() && !groups.is_empty() && helpers_exist() {
            let extend = |extents: &mut Vec<Extent>, ranges: Vec<(u32, u32)>| {
                let mut inside = 1u32;
                for (outside, count) in ranges {
                    extents.push(Extent {
                        inside,
                        outside,
                        count,
                    });
                    inside = inside.saturating_add(count);
                }
            };
            extend(&mut maps.users, users);
            extend(&mut maps.groups, groups);
            maps.by = MapWriter::Helpers;
        }
        maps
    }

    /// Of a rootless gofer that serves the caller's own files to the caller.
    pub fn rootless_self(caller: &Identity) -> IdMaps {
        let own = (caller.uid, caller.gid);
        IdMaps::single(own, own, MapWriter::Single)
    }

    /// Gives process `pid`'s namespace these maps.
    pub fn write(&self, pid: i32) -> Result<(), MapError> {
        if self.by == MapWriter::Helpers {
            helper("newuidmap", pid, &self.users)?;
            return helper("newgidmap", pid, &self.groups);
        }
        let put = |file: &str, text: String| {
            std::fs::write(format!("/proc/{pid}/{file}"), text).map_err(|e| MapError {
                what: file.to_owned(),
                answer: e.to_string(),
            })
        };
        if self.by == MapWriter::Single {
            put("setgroups", "deny".to_owned())?;
        }
        put("uid_map", lines(&self.users))?;
        put("gid_map", lines(&self.groups))
    }
}

fn lines(extents: &[Extent]) -> String {
    extents
        .iter()
        .map(|e| format!("{} {} {}\n", e.inside, e.outside, e.count))
        .collect()
}

fn helper(program: &str, pid: i32, extents: &[Extent]) -> Result<(), MapError> {
    let failed = |answer: String| MapError {
        what: program.to_owned(),
        answer,
    };
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for e in extents {
        command.args([e.inside, e.outside, e.count].map(|n| n.to_string()));
    }
    let output = command.output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

fn helpers_exist() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["newuidmap", "newgidmap"]
        .iter()
        .all(|program| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn subordinate(file: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    parse_subordinate(&text, uid, name)
}

/// The ranges (first, count) that belong to the user by number or by name.
fn parse_subordinate(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().splitn(3, ':');
            let owner = fields.next()?;
            if owner != number && Some(owner) != name {
                return None;
            }
            let first: u32 = fields.next()?.parse().ok()?;
            let count: u32 = fields.next()?.parse().ok()?;
            first.checked_add(count)?;
            (count > 0).then_some((first, count))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_are_found_by_name_and_number() {
        let text = "ann:100000:65536\n1000:300000:10\nbob:1:2\nann:x:3\nann:4294967295:2\n";
        assert_eq!(
            parse_subordinate(text, 1000, Some("ann")),
            [(100000, 65536), (300000, 10)]
        );
        assert_eq!(parse_subordinate(text, 7, None), []);
    }
}
