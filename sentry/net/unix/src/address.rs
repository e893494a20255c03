//! `struct sockaddr_un`, and the abstract name space.

use crate::UnixSocket;
use abi::{Errno, libc};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};

/// Bytes in `sun_path`.
const PATH_MAX: usize = 108;

/// Where a Unix socket can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Nowhere (autobind on bind, unnamed on connect).
    Unnamed,
    /// A file.
    Path(Vec<u8>),
    /// A name of the abstract name space.
    Abstract(Vec<u8>),
}

impl Address {
    /// From raw bytes, as bind(2) and connect(2) take them.
    pub fn parse(raw: &[u8]) -> Result<Address, Errno> {
        let (family, name) = raw.split_at_checked(2).ok_or(Errno::EINVAL)?;
        if name.len() > PATH_MAX
            || u16::from_ne_bytes([family[0], family[1]]) != libc::AF_UNIX as u16
        {
            return Err(Errno::EINVAL);
        }
        Ok(match name {
            [] => Address::Unnamed,
            [0, rest @ ..] => Address::Abstract(rest.to_vec()),
            path => {
                let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
                Address::Path(path[..end].to_vec())
            }
        })
    }

    /// As getsockname(2) gives it.
    pub fn to_raw(&self) -> Vec<u8> {
        let mut raw = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
        match self {
            Address::Unnamed => {}
            Address::Path(p) => {
                raw.extend_from_slice(p);
                raw.push(0);
            }
            Address::Abstract(n) => {
                raw.push(0);
                raw.extend_from_slice(n);
            }
        }
        raw
    }
}

/// The abstract names of one network namespace.
#[derive(Default)]
pub struct AbstractNames {
    names: Mutex<Names, ranks::SocketNames>,
}

#[derive(Default)]
struct Names {
    bound: HashMap<Vec<u8>, Weak<UnixSocket>>,
    next_auto: u32,
}

impl std::fmt::Debug for AbstractNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AbstractNames")
    }
}

impl AbstractNames {
    /// Nobody has a name.
    pub fn new() -> Arc<AbstractNames> {
        Arc::new(AbstractNames::default())
    }

    pub(crate) fn bind(&self, name: &[u8], socket: &Arc<UnixSocket>) -> Result<(), Errno> {
        let mut n = self.names.lock();
        if n.bound.get(name).is_some_and(|s| s.strong_count() > 0) {
            return Err(Errno::EADDRINUSE);
        }
        n.bound.insert(name.to_vec(), Arc::downgrade(socket));
        Ok(())
    }

    /// Picks a free name of five hexadecimal digits, as autobind does.
    pub(crate) fn bind_auto(&self, socket: &Arc<UnixSocket>) -> Result<Vec<u8>, Errno> {
        let mut n = self.names.lock();
        for _ in 0..=0xfffff {
            let name = format!("{:05x}", n.next_auto & 0xfffff).into_bytes();
            n.next_auto = n.next_auto.wrapping_add(1);
            if n.bound.get(&name).is_none_or(|s| s.strong_count() == 0) {
                n.bound.insert(name.clone(), Arc::downgrade(socket));
                return Ok(name);
            }
        }
        Err(Errno::ENOSPC)
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<Arc<UnixSocket>> {
        self.names.lock().bound.get(name).and_then(Weak::upgrade)
    }

    /// `socket` gives `name` up, if it is the one that was bound to it: those that a listener
    /// accepted have its address, too.
    pub(crate) fn release(&self, name: &[u8], socket: &UnixSocket) {
        let mut names = self.names.lock();
        let bound = names.bound.get(name);
        if bound.is_some_and(|s| std::ptr::eq(s.as_ptr(), socket)) {
            names.bound.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for a in [
            Address::Unnamed,
            Address::Path(b"/run/x".to_vec()),
            Address::Abstract(b"a\0b".to_vec()),
        ] {
            assert_eq!(Address::parse(&a.to_raw()).unwrap(), a);
        }
        assert_eq!(Address::parse(&[1]), Err(Errno::EINVAL));
        assert_eq!(Address::parse(&[2, 0, 0]), Err(Errno::EINVAL));
        assert_eq!(Address::parse(&[1; 200]), Err(Errno::EINVAL));
    }
}
