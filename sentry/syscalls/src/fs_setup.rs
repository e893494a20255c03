//! A file system that is being set up or changed, parameter by parameter: what mount(2) and
//! fsconfig(2) have in common.

use crate::fs_params::{Parameter, Value};
use crate::mount::administers;
use crate::services::{FileSystemType, MountArgs};
use abi::Errno;
use auth::UserNamespace;
use std::collections::VecDeque;
use std::sync::Arc;
use task::TaskCx;
use vfs::{FsCtx, Mount, MountFlags, MountSpec, SuperBlock, SuperFlags};

/// Messages that are kept for who reads the descriptor.
const MESSAGES: usize = 8;
/// Bytes of parameters, at most.
const PARAMETERS: usize = 64 << 10;
/// The parameter that adds to what there is of it, and how often it can be given (`OVL_MAX_STACK`).
const LAYER: (&str, usize) = ("lowerdir+", 500);

/// Names of flags that every file system has: what they set, and what they clear.
const FLAGS: &[(&str, SuperFlags, bool)] = &[
    ("dirsync", SuperFlags::DIRSYNC, true),
    ("lazytime", SuperFlags::LAZYTIME, true),
    ("mand", SuperFlags::MANDLOCK, true),
    ("ro", SuperFlags::RDONLY, true),
    ("sync", SuperFlags::SYNCHRONOUS, true),
    ("async", SuperFlags::SYNCHRONOUS, false),
    ("nolazytime", SuperFlags::LAZYTIME, false),
    ("nomand", SuperFlags::MANDLOCK, false),
    ("rw", SuperFlags::RDONLY, false),
];

/// What is known of it so far.
pub(crate) struct Setup {
    /// Its type; `None` for one that no call can make, to be changed.
    kind: Option<Arc<FileSystemType>>,
    /// Type, as messages name it.
    name: String,
    /// The user namespace that it is of once it is mounted.
    owner: UserNamespace,
    source: Option<Vec<u8>>,
    flags: SuperFlags,
    /// Flags that were named.
    named: SuperFlags,
    parameters: Vec<(String, Option<String>)>,
    log: VecDeque<String>,
}

impl Setup {
    /// One of the user namespace of who begins it, or whose what it shows is.
    pub(crate) fn new(
        cx: &TaskCx,
        name: &str,
        kind: Option<Arc<FileSystemType>>,
        flags: SuperFlags,
    ) -> Setup {
        let owner = match name {
            "mqueue" => cx.ipc().owner(),
            "proc" => cx.pid_namespace().owner(),
            "sysfs" => cx.net().owner(),
            "cgroup2" => cx.namespaces().cgroup.owner(),
            _ => &cx.creds_ref().user_ns,
        };
        Setup {
            kind,
            name: name.to_owned(),
            owner: owner.clone(),
            source: None,
            flags,
            named: SuperFlags::empty(),
            parameters: Vec::new(),
            log: VecDeque::new(),
        }
    }

    /// Says what is to be mounted, as mount(2) does.
    pub(crate) fn set_source(&mut self, source: Vec<u8>) {
        self.source = Some(source);
    }

    /// As at first, but for the messages.
    pub(crate) fn clear(&mut self) {
        self.source = None;
        self.flags = SuperFlags::empty();
        self.named = SuperFlags::empty();
        self.parameters.clear();
    }

    /// The oldest message.
    pub(crate) fn message(&self) -> Option<&String> {
        self.log.front()
    }

    pub(crate) fn message_read(&mut self) {
        self.log.pop_front();
    }

    fn say(&mut self, message: &str) {
        if self.log.len() == MESSAGES {
            self.log.pop_front();
        }
        self.log.push_back(format!("e {message}\n"));
    }

    fn invalid<T>(&mut self, message: &str) -> Result<T, Errno> {
        self.say(message);
        Err(Errno::EINVAL)
    }

    /// Takes a parameter.
    ///
    /// # Errors
    /// `EINVAL`, with a message that says why.
    pub(crate) fn set(&mut self, key: &[u8], value: Value) -> Result<(), Errno> {
        let key = String::from_utf8_lossy(key).into_owned();
        if let Some((_, flag, on)) = FLAGS.iter().find(|(n, ..)| *n == key) {
            self.flags.set(*flag, *on);
            self.named |= *flag;
            return Ok(());
        }
        let known: &[Parameter] = self.kind.as_ref().map_or(&[], |k| k.parameters);
        if let Some(known) = known.iter().find(|p| p.name == key) {
            if let Err(all) = known.check(&value) {
                for text in all {
                    self.say(&format!("{}: {text}", self.name));
                }
                return Err(Errno::EINVAL);
            }
            let text = match value {
                Value::Text(text) => Some(String::from_utf8(text).map_err(|_| Errno::EINVAL)?),
                Value::Flag | Value::Other => None,
            };
            return self.keep(key, text);
        }
        if key != "source" {
            let text = format!("{}: Unknown parameter '{key}'", self.name);
            return self.invalid(&text);
        }
        match value {
            Value::Text(_) if self.source.is_some() => self.invalid("Multiple sources"),
            Value::Text(source) => {
                self.source = Some(source);
                Ok(())
            }
            _ => self.invalid("Non-string source"),
        }
    }

    /// Remembers a parameter, in the place of what was said before.
    fn keep(&mut self, key: String, text: Option<String>) -> Result<(), Errno> {
        let (layer, most) = LAYER;
        let same = |(k, _): &&(String, Option<String>)| *k == key;
        if key != layer {
            self.parameters.retain(|(k, _)| *k != key);
        } else if self.parameters.iter().filter(same).count() >= most {
            let name = &self.name;
            let text = format!("{name}: too many lower directories, limit is {most}");
            return self.invalid(&text);
        }
        let size = |k: &String, v: &Option<String>| k.len() + v.as_ref().map_or(0, String::len);
        let all: usize = self.parameters.iter().map(|(k, v)| size(k, v)).sum();
        if all + size(&key, &text) > PARAMETERS {
            let text = format!("{}: Parameters too long", self.name);
            return self.invalid(&text);
        }
        self.parameters.push((key, text));
        Ok(())
    }

    /// Takes mount(2)'s data.
    ///
    /// # Errors
    /// As [`Setup::set`].
    pub(crate) fn set_all(&mut self, data: &[u8]) -> Result<(), Errno> {
        let escapes = self.kind.as_ref().is_some_and(|k| k.escapes);
        for option in split(data, escapes) {
            let equals = option.iter().position(|b| *b == b'=');
            match equals {
                Some(0) => {}
                Some(at) => self.set(&option[..at], Value::Text(option[at + 1..].to_vec()))?,
                None => self.set(&option, Value::Flag)?,
            }
        }
        Ok(())
    }

    fn options(&self) -> String {
        let each = self.parameters.iter().map(|(key, value)| match value {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        });
        each.collect::<Vec<_>>().join(",")
    }

    /// Makes it.
    ///
    /// # Errors
    /// `EPERM` where its owner's root is more than the caller, and what the file system says.
    pub(crate) fn make(&self, cx: &TaskCx) -> Result<MountSpec, Errno> {
        let kind = self.kind.as_ref().ok_or(Errno::ENODEV)?;
        let spec = (kind.make)(
            cx,
            &MountArgs {
                source: self.source.as_deref().unwrap_or(b"none"),
                parameters: &self.parameters,
                options: &self.options(),
            },
        )?;
        administers(cx, &self.owner)?;
        Ok(MountSpec {
            owner: self.owner.clone(),
            source: self.source.clone().unwrap_or_else(|| b"none".to_vec()),
            super_flags: self.flags | spec.super_flags,
            ..spec
        })
    }

    /// Makes it, and a mount with `flags` of it that stands nowhere.
    ///
    /// # Errors
    /// As [`Setup::make`].
    pub(crate) fn mount(&self, cx: &TaskCx, flags: MountFlags) -> Result<Arc<Mount>, Errno> {
        let spec = self.make(cx)?;
        Ok(Mount::detached(MountSpec { flags, ..spec }))
    }

    /// Changes one that is mounted: the flags in `mask` and those that were named.
    ///
    /// # Errors
    /// `EPERM` where its owner's root is more than the caller, `EBUSY` where it is to be read-only
    /// and is written to, and what the file system says.
    pub(crate) fn change(
        &self,
        cx: &TaskCx,
        superblock: &SuperBlock,
        mask: SuperFlags,
    ) -> Result<(), Errno> {
        administers(cx, superblock.owner())?;
        superblock.reconfigure(cx, self.flags, mask | self.named, Some(&self.options()))
    }
}

/// Whether a new mount shows no more than what is mounted already, of a file system of which some
/// may be hidden below other mounts, or be read-only for a reason: `EPERM`.
pub(crate) fn check_revealing(cx: &TaskCx, mount: &Mount, flags: MountFlags) -> Result<(), Errno> {
    const REVEALING: &[&str] = &["proc", "sysfs"];
    let mounts = cx.mounts();
    match mounts.owner().is_first()
        || !REVEALING.contains(&mount.fstype())
        || mounts.shows_no_more(mount, flags)
    {
        true => Ok(()),
        false => Err(Errno::EPERM),
    }
}

/// The options in `data`, between commas; with `escapes`, `\,` is none of these.
fn split(data: &[u8], escapes: bool) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut bytes = data.iter();
    while let Some(byte) = bytes.next() {
        let Some(last) = all.last_mut() else { break };
        match byte {
            b',' => all.push(Vec::new()),
            b'\\' if escapes => {
                last.push(*byte);
                last.extend(bytes.next());
            }
            _ => last.push(*byte),
        }
    }
    all.retain(|o| !o.is_empty());
    all
}
