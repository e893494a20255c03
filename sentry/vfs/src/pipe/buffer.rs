//! The bytes in a pipe.

use super::PIPE_BUF;
use std::collections::VecDeque;

/// What a pipe holds and who holds it.
pub(super) struct State {
    pub(super) segments: VecDeque<Segment>,
    pub(super) len: usize,
    pub(super) capacity: usize,
    pub(super) readers: u32,
    pub(super) writers: u32,
    /// Openings so far, for those who wait for one.
    pub(super) reader_count: u64,
    pub(super) writer_count: u64,
}

/// Bytes of one write.
pub(super) struct Segment {
    pub(super) bytes: Vec<u8>,
    pub(super) start: usize,
    /// Written in packet mode: read by one read, as far as that goes.
    pub(super) packet: bool,
}

impl Segment {
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.start
    }
}

impl State {
    pub(super) fn new(capacity: usize) -> State {
        State {
            segments: VecDeque::new(),
            len: 0,
            capacity,
            readers: 0,
            writers: 0,
            reader_count: 0,
            writer_count: 0,
        }
    }

    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.len)
    }

    pub(super) fn writable(&self) -> bool {
        self.room() >= PIPE_BUF.min(self.capacity)
    }

    pub(super) fn push(&mut self, bytes: Vec<u8>, packet: bool) {
        self.len += bytes.len();
        if let Some(last) = self.segments.back_mut()
            && !packet
            && !last.packet
            && last.bytes.len() + bytes.len() <= PIPE_BUF
        {
            last.bytes.extend_from_slice(&bytes);
            return;
        }
        self.segments.push_back(Segment {
            bytes,
            start: 0,
            packet,
        });
    }

    /// Takes up to `max` bytes, of one segment.
    pub(super) fn pop(&mut self, max: usize) -> Option<Segment> {
        let first = self.segments.front_mut()?;
        if first.left() <= max || first.packet {
            let mut segment = self.segments.pop_front()?;
            self.len -= segment.left();
            segment.bytes.truncate(segment.start + max);
            return Some(segment);
        }
        let bytes = first.bytes.get(first.start..first.start + max)?.to_vec();
        first.start += max;
        self.len -= max;
        Some(Segment {
            bytes,
            start: 0,
            packet: false,
        })
    }

    /// Puts back what could not be used.
    pub(super) fn unpop(&mut self, segment: Segment) {
        self.len += segment.left();
        self.segments.push_front(segment);
    }
}
