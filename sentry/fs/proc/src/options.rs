//! What an instance is mounted with (proc(5)).

use crate::Proc;
use abi::Errno;
use ctx::Ctx;
use task::Task;
use vfs::{FileSystem, SuperFlags};

/// Who sees which processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HidePid {
    /// All see all.
    #[default]
    Off,
    /// Others' directories cannot be entered.
    NoAccess,
    /// Nor are they seen.
    Invisible,
    /// Only what could be traced is seen, whatever `gid` says.
    Ptraceable,
}

/// Options of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `hidepid=`
    pub hide: HidePid,
    /// `gid=`: the group to which it does not matter.
    pub gid: u32,
    /// `subset=pid`: nothing but processes.
    pub processes_only: bool,
}

impl Options {
    /// From parameters of proc(5).
    ///
    /// # Errors
    /// `EINVAL` for what is none, or no value of it.
    pub fn parse(parameters: &[(String, Option<String>)]) -> Result<Options, Errno> {
        let mut options = Options::default();
        for (key, value) in parameters {
            options.set(key, value.as_deref().unwrap_or_default())?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Errno> {
        match (key, value) {
            ("hidepid", "0" | "off") => self.hide = HidePid::Off,
            ("hidepid", "1" | "noaccess") => self.hide = HidePid::NoAccess,
            ("hidepid", "2" | "invisible") => self.hide = HidePid::Invisible,
            ("hidepid", "4" | "ptraceable") => self.hide = HidePid::Ptraceable,
            ("gid", gid) => self.gid = gid.parse().map_err(|_| Errno::EINVAL)?,
            ("subset", "pid") => self.processes_only = true,
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn text(&self) -> String {
        let hide = match self.hide {
            HidePid::Off => None,
            HidePid::NoAccess => Some("noaccess"),
            HidePid::Invisible => Some("invisible"),
            HidePid::Ptraceable => Some("ptraceable"),
        };
        let mut all = Vec::new();
        if self.gid != 0 {
            all.push(format!("gid={}", self.gid));
        }
        all.extend(hide.map(|h| format!("hidepid={h}")));
        if self.processes_only {
            all.push("subset=pid".to_owned());
        }
        all.join(",")
    }
}

impl Proc {
    pub(crate) fn options(&self) -> Options {
        *self.options.read()
    }

    /// Whether the reader is kept from `task` by an instance that hides as much as `least`.
    pub(crate) fn hides(&self, cx: &dyn Ctx, task: &Task, least: HidePid) -> bool {
        let options = self.options();
        if options.hide < least {
            return false;
        }
        let exempt = options.hide != HidePid::Ptraceable && cx.creds().in_group(options.gid);
        !exempt && !task.lets_look(cx, task::Ids::Files)
    }
}

impl FileSystem for Proc {
    fn options(&self) -> String {
        self.options().text()
    }

    fn reconfigure(&self, _cx: &dyn Ctx, _flags: SuperFlags, options: &str) -> Result<(), Errno> {
        let mut new = self.options();
        for option in options.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            new.set(key, value)?;
        }
        *self.options.write() = new;
        Ok(())
    }
}
