//! Connections, and the loop over them.

use crate::magic::Magic;
use crate::nodes::Room;
use crate::tree::Tree;
use control::fs::{Call, Reply};
use control::{Channel, ChannelError};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// One tree to serve.
#[derive(Debug)]
pub struct TreeConfig {
    /// Descriptor of its root, `O_PATH` or read-only: a directory or a single file.
    pub root: OwnedFd,
    /// Whether it is a mount below one that config.json names.
    pub below: bool,
    /// Our end of the connection.
    pub connection: OwnedFd,
    /// Refuse what would change it.
    pub readonly: bool,
    /// For log lines.
    pub name: String,
}

/// Most nodes of all trees together. A sentry forgets what it does not use.
const MAX_NODES: usize = 2_000_000;
/// What a tree may have, however many there are.
const MIN_NODES: usize = 10_000;

struct Connection {
    channel: Channel,
    tree: Tree,
    name: String,
}

/// All trees of a gofer. One thread serves them: requests are short.
pub struct Server {
    connections: Vec<Connection>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({} trees)", self.connections.len())
    }
}

impl Server {
    /// Serves `trees`, with about `descriptors` of them open for look-ups at a time.
    ///
    /// # Errors
    /// A root that cannot be looked at.
    pub fn new(trees: Vec<TreeConfig>, magic: Magic, descriptors: usize) -> Result<Server, Errno> {
        let magic = Arc::new(magic);
        let room = Room {
            descriptors: descriptors / trees.len().max(1),
            nodes: (MAX_NODES / trees.len().max(1)).max(MIN_NODES),
        };
        let connections = trees
            .into_iter()
            .map(|t| {
                let tree = Tree::new(t.root, t.below, t.readonly, room, magic.clone())?;
                Ok(Connection {
                    channel: Channel::new(t.connection),
                    tree,
                    name: t.name,
                })
            })
            .collect::<Result<_, Errno>>()?;
        Ok(Server { connections })
    }

    /// Until every connection has closed.
    pub fn run(mut self) {
        let mut at_rest = false;
        while !self.connections.is_empty() {
            for i in self.wait(&mut at_rest).into_iter().rev() {
                let Some(connection) = self.connections.get_mut(i) else {
                    continue;
                };
                match connection.step() {
                    Ok(()) => {}
                    Err(ChannelError::Closed) => drop(self.connections.remove(i)),
                    Err(e) => {
                        tracing::warn!("connection of {}: {e}", connection.name);
                        self.connections.remove(i);
                    }
                }
            }
        }
    }

    /// Those that have something to say, in order. Once, after the first burst of questions, it lets
    /// go of what that needed.
    fn wait(&self, at_rest: &mut bool) -> Vec<usize> {
        if *at_rest && self.connections.len() == 1 {
            // Receiving waits well enough.
            return vec![0];
        }
        let mut fds: Vec<PollFd<'_>> = self
            .connections
            .iter()
            .map(|c| PollFd::new(c.channel.socket(), PollFlags::POLLIN))
            .collect();
        let patience = match *at_rest {
            true => PollTimeout::NONE,
            false => resident::REST_MS.into(),
        };
        match poll(&mut fds, patience) {
            Ok(0) => {
                resident::let_go();
                *at_rest = true;
                Vec::new()
            }
            Ok(_) => (0..fds.len())
                .filter(|i| fds[*i].any() == Some(true))
                .collect(),
            Err(_) => Vec::new(),
        }
    }
}

impl Connection {
    fn step(&mut self) -> Result<(), ChannelError> {
        // Descriptors that come with a request are not wanted, and closed.
        let (call, _) = self.channel.recv::<Call>()?;
        self.tree.forget(&call.forget);
        tracing::debug!(tree = self.name, request = ?call.request);
        let (reply, fd) = match self.tree.serve(call.request) {
            Ok(answer) => answer,
            Err(e) => (Reply::Failed(e as i32), None),
        };
        match &fd {
            Some(fd) => self.channel.send(&reply, &[fd.as_fd()]),
            None => self.channel.send(&reply, &[]),
        }
    }
}
