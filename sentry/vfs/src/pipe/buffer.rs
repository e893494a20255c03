//! The bytes in a pipe.
//!
//! Linux keeps them in slots of a page each, and it is slots that a pipe has a number of: a byte
//! read from a full pipe makes no room, a page does. A [`Segment`] is a run of such slots, all of
//! them full but for what has been read from its head and for its last one.

use super::PIPE_BUF;
use std::collections::VecDeque;

/// What a pipe holds and who holds it.
pub(super) struct State {
    pub(super) segments: VecDeque<Segment>,
    /// Bytes.
    pub(super) len: usize,
    /// Slots that are taken.
    used: usize,
    /// Slots there are.
    slots: usize,
    pub(super) readers: u32,
    pub(super) writers: u32,
    /// Openings so far, for those who wait for one.
    pub(super) reader_count: u64,
    pub(super) writer_count: u64,
}

/// Bytes in slots that follow each other.
pub(super) struct Segment {
    pub(super) bytes: Vec<u8>,
    pub(super) start: usize,
    pub(super) kind: Kind,
}

/// What may be done with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Written: what fits into the last slot may join it.
    Written,
    /// Written in packet mode: read by one read, as far as that goes.
    Packet,
    /// Spliced: nothing joins it.
    Piece,
}

impl Segment {
    pub(super) fn new(bytes: Vec<u8>, kind: Kind) -> Segment {
        Segment {
            bytes,
            start: 0,
            kind,
        }
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn slots(&self) -> usize {
        self.bytes.len().div_ceil(PIPE_BUF) - self.start / PIPE_BUF
    }
}

impl State {
    pub(super) fn new(capacity: usize) -> State {
        State {
            segments: VecDeque::new(),
            len: 0,
            used: 0,
            slots: capacity / PIPE_BUF,
            readers: 0,
            writers: 0,
            reader_count: 0,
            writer_count: 0,
        }
    }

    /// Bytes it can hold at most.
    pub(super) fn capacity(&self) -> usize {
        self.slots * PIPE_BUF
    }

    /// Sets the capacity; `false` where more slots than that are taken.
    pub(super) fn resize(&mut self, capacity: usize) -> bool {
        let slots = capacity / PIPE_BUF;
        let fits = slots >= self.used;
        if fits {
            self.slots = slots;
        }
        fits
    }

    /// Bytes that fit into the slots that are free.
    pub(super) fn room(&self) -> usize {
        self.slots.saturating_sub(self.used) * PIPE_BUF
    }

    pub(super) fn writable(&self) -> bool {
        self.used < self.slots
    }

    /// Takes from the head of `bytes` what a write of them puts in; how much that was. `odd` is
    /// what the whole write is more than whole pages: it joins the last slot where it fits, and
    /// all else gets new ones. Without `last`, when more of the write will follow, slots are
    /// filled or not begun.
    pub(super) fn write(&mut self, bytes: &mut Vec<u8>, odd: &mut usize, last: bool) -> usize {
        let mut count = self.join(bytes, std::mem::take(odd));
        let mut n = bytes.len().min(self.room());
        if n < bytes.len() || !last {
            n -= n % PIPE_BUF;
        }
        if n > 0 {
            let rest = bytes.split_off(n);
            self.push(Segment::new(std::mem::replace(bytes, rest), Kind::Written));
            count += n;
        }
        count
    }

    /// Lets the first `odd` of `bytes` join the last slot, if they can.
    fn join(&mut self, bytes: &mut Vec<u8>, odd: usize) -> usize {
        let Some(last) = self.segments.back_mut() else {
            return 0;
        };
        let filled = last.bytes.len() % PIPE_BUF;
        let fits = last.kind == Kind::Written && filled > 0 && filled + odd <= PIPE_BUF;
        if odd == 0 || !fits {
            return 0;
        }
        last.bytes.extend(bytes.drain(..odd));
        self.len += odd;
        odd
    }

    /// Adds a segment, room or not.
    pub(super) fn push(&mut self, segment: Segment) {
        self.len += segment.left();
        self.used += segment.slots();
        self.segments.push_back(segment);
    }

    /// Takes up to `max` bytes, of one segment.
    pub(super) fn pop(&mut self, max: usize) -> Option<Segment> {
        let first = self.segments.front_mut()?;
        let before = first.slots();
        if first.left() <= max || first.kind == Kind::Packet {
            let mut segment = self.segments.pop_front()?;
            self.len -= segment.left();
            self.used -= before;
            segment.bytes.truncate(segment.start + max);
            return Some(segment);
        }
        let bytes = first.bytes.get(first.start..first.start + max)?.to_vec();
        first.start += max;
        self.len -= max;
        self.used -= before - first.slots();
        Some(Segment::new(bytes, Kind::Piece))
    }

    /// Takes up to `max` bytes, of one slot.
    pub(super) fn pop_slot(&mut self, max: usize) -> Option<Segment> {
        let first = self.segments.front()?;
        let slot = PIPE_BUF - first.start % PIPE_BUF;
        let whole = first.left() <= slot.min(max);
        let kind = first.kind;
        let mut segment = self.pop(max.min(slot))?;
        // A whole slot stays what it is, wherever it goes.
        segment.kind = if whole { kind } else { Kind::Piece };
        Some(segment)
    }

    /// The bytes of the next slots: at most `max`, of at most `slots`.
    pub(super) fn peek(&self, max: usize, slots: usize) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut left = max;
        for s in &self.segments {
            let mut at = s.start;
            while at < s.bytes.len() && left > 0 && out.len() < slots {
                let end = (at - at % PIPE_BUF + PIPE_BUF)
                    .min(s.bytes.len())
                    .min(at + left);
                out.push(s.bytes.get(at..end).unwrap_or_default().to_vec());
                left -= end - at;
                at = end;
            }
        }
        out
    }

    /// Puts back what could not be used.
    pub(super) fn unpop(&mut self, segment: Segment) {
        self.len += segment.left();
        self.used += segment.slots();
        self.segments.push_front(segment);
    }

    /// Forgets all there is.
    pub(super) fn clear(&mut self) {
        self.segments.clear();
        (self.len, self.used) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(s: &mut State, n: usize) -> usize {
        s.write(&mut vec![7; n], &mut (n % PIPE_BUF), true)
    }

    #[test]
    fn a_slot_is_free_when_all_of_it_has_been_read() {
        let mut s = State::new(2 * PIPE_BUF);
        assert_eq!(write(&mut s, 3 * PIPE_BUF), 2 * PIPE_BUF);
        assert!(!s.writable());
        assert_eq!(s.pop(100).map(|p| p.left()), Some(100));
        assert_eq!(write(&mut s, 1), 0);
        assert_eq!(
            s.pop(PIPE_BUF - 100).map(|p| p.left()),
            Some(PIPE_BUF - 100)
        );
        assert_eq!(write(&mut s, 1), 1);
        assert!(!s.writable());
        assert_eq!(s.len, PIPE_BUF + 1);
    }

    #[test]
    fn what_is_odd_joins_the_last_slot() {
        let mut s = State::new(2 * PIPE_BUF);
        write(&mut s, 10);
        // The odd ten bytes join, the page gets the second slot.
        assert_eq!(write(&mut s, PIPE_BUF + 10), PIPE_BUF + 10);
        assert!(!s.writable());
        assert_eq!(write(&mut s, 1), 0);
        assert_eq!(s.peek(usize::MAX, 1).concat().len(), 20);
        assert_eq!(s.pop(usize::MAX).map(|p| p.left()), Some(20));
        assert!(s.writable());
    }

    #[test]
    fn nothing_joins_packets_and_pieces() {
        let mut s = State::new(4 * PIPE_BUF);
        s.push(Segment::new(vec![1; 5], Kind::Packet));
        s.push(Segment::new(vec![1; 5], Kind::Piece));
        assert_eq!(write(&mut s, 3), 3);
        assert_eq!(s.room(), PIPE_BUF);
        let packet = s.pop(2);
        assert_eq!(packet.map(|p| p.left()), Some(2));
        assert_eq!(s.len, 8);
    }
}
