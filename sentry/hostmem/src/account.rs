//! How much may be handed out: the account behind the memory limit.
//!
//! What is handed out (*charged*) can come into being on the host without us, so that nothing can
//! go over the limit while less than the limit is charged, and nobody need measure. Beyond that
//! the true usage counts: the charged bytes that were found not to exist are *slack*, which may
//! be charged a second time. Plain data, no host calls.

/// No limit.
const UNLIMITED: u64 = u64::MAX;

/// Bytes charged, and how many there may be.
pub(crate) struct Account {
    limit: u64,
    charged: u64,
    /// Of `charged`, what did not exist when that was looked at last.
    slack: u64,
}

impl Default for Account {
    fn default() -> Account {
        Account {
            limit: UNLIMITED,
            charged: 0,
            slack: 0,
        }
    }
}

impl Account {
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.limit != UNLIMITED
    }

    /// Charges `bytes`, if there is room.
    pub(crate) fn charge(&mut self, bytes: u64) -> bool {
        let fits = bytes <= self.room();
        if fits {
            self.charged += bytes;
        }
        fits
    }

    /// Charges `bytes`, also where there is no room.
    pub(crate) fn charge_anyway(&mut self, bytes: u64) {
        self.charged = self.charged.saturating_add(bytes);
    }

    /// Takes a charge back. How much of it existed is not known: what is left of the slack is
    /// thought to have gone with it, until it is measured again.
    pub(crate) fn uncharge(&mut self, bytes: u64) {
        self.charged = self.charged.saturating_sub(bytes);
        self.slack = self.slack.saturating_sub(bytes);
    }

    /// Bytes that may still be charged.
    pub(crate) fn room(&self) -> u64 {
        self.limit
            .saturating_add(self.slack)
            .saturating_sub(self.charged)
    }

    /// Takes note of what exists.
    pub(crate) fn measured(&mut self, usage: u64) {
        self.slack = self.charged.saturating_sub(usage);
        // What exists beyond what was charged (the stretch of zeros) is not anybody's.
    }

    /// Bytes charged that did not exist when that was looked at last.
    pub(crate) fn slack(&self) -> u64 {
        self.slack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_the_limit_nothing_need_be_measured() {
        let mut a = Account::default();
        assert!(a.charge(1 << 50));
        let mut a = Account::default();
        a.set_limit(100);
        assert!(a.charge(60) && a.charge(40) && !a.charge(1));
        a.uncharge(10);
        assert!(a.charge(10) && !a.charge(1));
    }

    #[test]
    fn what_does_not_exist_is_charged_again_but_not_twice() {
        let mut a = Account::default();
        a.set_limit(100);
        assert!(a.charge(100));
        a.measured(30);
        assert_eq!((a.room(), a.slack()), (70, 70));
        assert!(a.charge(50));
        // It goes: perhaps that was what did not exist.
        a.uncharge(100);
        assert_eq!(a.room(), 50);
        a.measured(0);
        assert_eq!(a.room(), 100);
    }
}
