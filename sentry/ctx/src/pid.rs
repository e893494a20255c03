//! What processes, threads, process groups and sessions are called (pid_namespaces(7)).

use std::sync::Arc;

/// Tells a PID namespace from all others of the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidSpace(pub u64);

/// A number in each PID namespace from the outermost to one's own. It stays what it is when what
/// was called so has gone: who keeps it can still be told what it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pid {
    outermost: PidSpace,
    id: i32,
    /// Those of nested namespaces, from the outside in.
    nested: Option<Arc<[(PidSpace, i32)]>>,
}

impl Pid {
    /// Of one that is in the outermost namespace, `space`, alone.
    pub const fn new(space: PidSpace, id: i32) -> Pid {
        Pid {
            outermost: space,
            id,
            nested: None,
        }
    }

    /// This one, with numbers in nested namespaces, from the outside in.
    pub fn with_nested(self, numbers: &[(PidSpace, i32)]) -> Pid {
        Pid {
            nested: (!numbers.is_empty()).then(|| numbers.into()),
            ..self
        }
    }

    /// The number in the outermost namespace, by which the kernel itself knows it; 0 for nobody.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The number in its own namespace: what it calls itself.
    pub fn own(&self) -> i32 {
        match &self.nested {
            None => self.id,
            Some(nested) => nested.last().map_or(self.id, |(_, number)| *number),
        }
    }

    /// Its own namespace.
    pub fn space(&self) -> PidSpace {
        self.nested()
            .last()
            .map_or(self.outermost, |(space, _)| *space)
    }

    /// What who is in `space` calls it; 0 where it has no number there.
    pub fn seen_from(&self, space: PidSpace) -> i32 {
        if space == self.outermost {
            return self.id;
        }
        let found = self.nested().iter().find(|(s, _)| *s == space);
        found.map_or(0, |(_, number)| *number)
    }

    /// `space` and the namespaces below it that it is in, from the outside in.
    pub fn spaces_below(&self, space: PidSpace) -> Vec<PidSpace> {
        let nested = self.nested().iter().map(|(s, _)| *s);
        let all = std::iter::once(self.outermost).chain(nested);
        all.skip_while(|s| *s != space).collect()
    }

    /// The numbers in nested namespaces, from the outside in.
    pub fn nested(&self) -> &[(PidSpace, i32)] {
        self.nested.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_has_its_number_and_others_have_none() {
        let [outer, middle, inner, other] = [1, 2, 3, 4].map(PidSpace);
        let flat = Pid::new(outer, 70);
        assert_eq!((flat.id(), flat.own()), (70, 70));
        assert_eq!(flat.seen_from(middle), 0);
        let pid = flat.with_nested(&[(middle, 5), (inner, 1)]);
        assert_eq!((pid.id(), pid.own()), (70, 1));
        let seen = [outer, middle, inner, other].map(|space| pid.seen_from(space));
        assert_eq!(seen, [70, 5, 1, 0]);
        assert_eq!(pid.spaces_below(outer), [outer, middle, inner]);
        assert_eq!(pid.spaces_below(inner), [inner]);
        assert!(pid.spaces_below(other).is_empty());
    }
}
