//! What has been sent to a socket and not yet been received.

use crate::Address;
use net::{Control, Identity};
use std::collections::VecDeque;
use std::sync::Arc;
use vfs::File;

/// What each message costs beside its bytes, so that empty ones are not free.
const OVERHEAD: usize = 256;

/// One message, or for a stream what was sent in one piece.
pub(crate) struct Packet {
    pub(crate) data: Vec<u8>,
    /// Bytes of `data` received already (streams).
    pub(crate) taken: usize,
    pub(crate) control: Control,
    /// The sender's credentials, whether or not it asked to send them.
    pub(crate) sender: Identity,
    pub(crate) from: Address,
}

impl Packet {
    /// Who its receiver is told sent it.
    pub(crate) fn identity(&self) -> &Identity {
        self.control.creds.as_ref().unwrap_or(&self.sender)
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.data[self.taken..]
    }
}

/// A queue of messages, bounded by what the buffer size allows.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) packets: VecDeque<Packet>,
    bytes: usize,
}

impl Inbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether a close with this unread resets the connection: Linux (6.15) skips one empty message.
    pub(crate) fn resets(&self) -> bool {
        let empty = self.packets.front().is_some_and(|p| p.rest().is_empty());
        self.packets.len() > usize::from(empty)
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the first message.
    pub(crate) fn first(&self) -> usize {
        self.packets.front().map_or(0, |p| p.rest().len())
    }

    /// What is waiting, as it counts.
    pub(crate) fn cost(&self) -> usize {
        self.bytes + self.packets.len() * OVERHEAD
    }

    /// Bytes that fit while no more than `limit` may wait.
    pub(crate) fn room(&self, limit: usize) -> usize {
        limit.saturating_sub(self.cost() + OVERHEAD)
    }

    pub(crate) fn push(&mut self, packet: Packet) {
        self.bytes += packet.data.len();
        self.packets.push_back(packet);
    }

    /// Appends stream bytes; they join the last piece where nothing tells the two apart.
    pub(crate) fn push_stream(&mut self, packet: Packet) {
        if let Some(last) = self.packets.back_mut()
            && packet.control.rights.is_empty()
            && packet.control.creds.is_none()
            && last.control.rights.is_empty()
            && last.control.creds.is_none()
            && last.sender == packet.sender
            && last.data.len() + packet.data.len() <= 65536
        {
            self.bytes += packet.data.len();
            last.data.extend_from_slice(&packet.data);
            return;
        }
        self.push(packet);
    }

    pub(crate) fn pop(&mut self) -> Option<Packet> {
        let p = self.packets.pop_front()?;
        self.bytes -= p.rest().len();
        Some(p)
    }

    /// What a stream's reader would get of the first `max` bytes, which stay. One who asks for
    /// credentials sees no further than a change of sender, and nobody beyond a piece that comes
    /// with descriptors.
    pub(crate) fn look(&self, max: usize, pass_creds: bool) -> Option<(Vec<u8>, Control)> {
        let first = self.packets.front()?.identity();
        let mut data = Vec::new();
        let mut rights = Vec::new();
        for packet in &self.packets {
            if data.len() == max || (pass_creds && packet.identity() != first) {
                break;
            }
            let rest = packet.rest();
            data.extend_from_slice(&rest[..rest.len().min(max - data.len())]);
            if !packet.control.rights.is_empty() {
                rights.clone_from(&packet.control.rights);
                break;
            }
        }
        let creds = pass_creds.then(|| first.clone());
        Some((data, Control { rights, creds }))
    }

    /// Puts a packet that was popped back in front.
    pub(crate) fn unpop(&mut self, packet: Packet) {
        self.bytes += packet.rest().len();
        self.packets.push_front(packet);
    }

    /// Files on the way.
    pub(crate) fn rights(&self) -> impl Iterator<Item = &Arc<File>> {
        self.packets.iter().flat_map(|p| &p.control.rights)
    }

    pub(crate) fn clear(&mut self) -> VecDeque<Packet> {
        self.bytes = 0;
        std::mem::take(&mut self.packets)
    }
}
