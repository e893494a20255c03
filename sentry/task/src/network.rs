//! Network namespaces (network_namespaces(7)): of what there is of a network so far.

use auth::UserNamespace;
use net_unix::AbstractNames;
use std::sync::Arc;
use vfs::nsfs::NamespaceId;

/// A network namespace.
#[derive(Debug)]
pub struct NetNamespace {
    id: NamespaceId,
    owner: UserNamespace,
    unix_names: Arc<AbstractNames>,
}

impl NetNamespace {
    /// One without sockets, which belongs to `owner`.
    pub fn new(id: NamespaceId, owner: UserNamespace) -> Arc<NetNamespace> {
        Arc::new(NetNamespace {
            id,
            owner,
            unix_names: AbstractNames::new(),
        })
    }

    /// The number of its file in `/proc/PID/ns`.
    pub fn id(&self) -> u64 {
        self.id.get()
    }

    /// The user namespace whose it is.
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// The abstract names of Unix sockets.
    pub fn unix_names(&self) -> &Arc<AbstractNames> {
        &self.unix_names
    }
}
