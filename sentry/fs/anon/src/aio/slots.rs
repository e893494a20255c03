//! How many requests may be under way: a context's ring must have room for the event of each.

/// Counts room in a ring of `nr` events.
///
/// A request takes room, and what user space has taken out of the ring gives it back. Linux hands
/// room to each CPU in batches, so that what does not make a whole batch is never used.
#[derive(Debug)]
pub(super) struct Slots {
    nr: u32,
    free: u32,
    /// Events put into the ring whose room was not given back yet.
    completed: u32,
}

impl Slots {
    /// All free, on a machine of so many CPUs.
    pub(super) fn new(nr: u32, cpus: u32) -> Slots {
        let all = nr.saturating_sub(1);
        let batch = (all / cpus.saturating_mul(4).max(1)).max(1);
        Slots {
            nr,
            free: all - all % batch,
            completed: 0,
        }
    }

    /// Takes room for one. `head` and `tail` are the ring's: they tell what was taken out of it.
    pub(super) fn take(&mut self, head: u32, tail: u32) -> bool {
        if self.free == 0 {
            self.refill(head, tail);
        }
        if self.free == 0 {
            return false;
        }
        self.free -= 1;
        true
    }

    /// Gives room back for which there will be no event.
    pub(super) fn give_back(&mut self) {
        self.free += 1;
    }

    /// An event was put into the ring.
    pub(super) fn completed(&mut self) {
        self.completed += 1;
    }

    fn refill(&mut self, head: u32, tail: u32) {
        let head = head % self.nr;
        let in_ring = if head <= tail {
            tail - head
        } else {
            self.nr - (head - tail)
        };
        let taken = self.completed.saturating_sub(in_ring);
        self.completed -= taken;
        self.free += taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_batches_are_used_and_come_back_as_events_are_taken() {
        let mut slots = Slots::new(127, 2);
        let mut tail = 0;
        while slots.take(0, tail) {
            slots.completed();
            tail += 1;
        }
        assert_eq!(tail, 120);
        // Two were taken; a third is still there.
        assert!(slots.take(2, tail) && slots.take(2, tail) && !slots.take(2, tail));
    }

    #[test]
    fn a_head_that_makes_no_sense_makes_no_room_out_of_nothing() {
        let mut slots = Slots::new(5, 1);
        assert!((0..4).all(|_| slots.take(0, 0)));
        for head in [0, 1, 4, 5, 1 << 20, u32::MAX] {
            assert!(!slots.take(head, 0), "{head}");
        }
        slots.give_back();
        assert!(slots.take(u32::MAX, 0));
    }
}
