//! What uname(2) says.

use auth::UserNamespace;
use sync::{Mutex, ranks};
use vfs::nsfs::NamespaceId;

/// The names that the containers of a UTS namespace have.
#[derive(Debug)]
pub struct UtsNamespace {
    id: NamespaceId,
    owner: UserNamespace,
    uts: Mutex<Uts, ranks::Leaf>,
}

impl UtsNamespace {
    /// One with these, which belongs to `owner`.
    pub fn new(uts: Uts, id: NamespaceId, owner: UserNamespace) -> UtsNamespace {
        UtsNamespace {
            id,
            owner,
            uts: Mutex::new(uts),
        }
    }

    /// The number of its file in `/proc/PID/ns`.
    pub fn id(&self) -> u64 {
        self.id.get()
    }

    /// The user namespace whose it is.
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// What uname(2) says.
    pub fn get(&self) -> Uts {
        self.uts.lock().clone()
    }

    /// Changes it (sethostname(2), setdomainname(2)).
    pub fn update(&self, change: impl FnOnce(&mut Uts)) {
        change(&mut self.uts.lock());
    }
}

/// The strings of `struct new_utsname`, without their padding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "uname(2) says what each is")]
pub struct Uts {
    pub sysname: Vec<u8>,
    pub nodename: Vec<u8>,
    pub release: Vec<u8>,
    pub version: Vec<u8>,
    pub machine: Vec<u8>,
    pub domainname: Vec<u8>,
}

impl Default for Uts {
    fn default() -> Self {
        Uts {
            sysname: b"Linux".to_vec(),
            nodename: b"ringfence".to_vec(),
            release: b"6.6.0-ringfence".to_vec(),
            version: b"#1 SMP PREEMPT_DYNAMIC".to_vec(),
            machine: b"x86_64".to_vec(),
            domainname: b"(none)".to_vec(),
        }
    }
}
