//! Container ids.

use std::fmt;

/// Longest id accepted, in bytes: what a file name may have.
const MAX: usize = 255;

/// A container's id: one file name of letters, digits and `_+-.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId(String);

/// Not an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{id}` cannot be a container id: {why}; use letters, digits and `_`, `+`, `-`, `.` (at most \
     {MAX})"
)]
pub struct IdError {
    id: String,
    why: &'static str,
}

impl ContainerId {
    /// Checks `id`.
    pub fn new(id: &str) -> Result<ContainerId, IdError> {
        let bad = |why| {
            Err(IdError {
                id: id.escape_debug().take(300).collect(),
                why,
            })
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() {
            bad("it is empty")
        } else if id.len() > MAX {
            bad("it is too long")
        } else if id == "." || id == ".." {
            bad("it is a directory's name for itself or its parent")
        } else if id.contains('/') {
            bad("it has a `/`")
        } else if !id.chars().all(allowed) {
            bad("it has a character that is not allowed")
        } else {
            Ok(ContainerId(id.to_owned()))
        }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_file_names() {
        for good in ["a", "web-1", "A_b+c.d", "..a", &"x".repeat(255)] {
            assert!(ContainerId::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "/",
            "a b",
            "ä",
            "a\n",
            "a\0",
            &"x".repeat(256),
        ] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
    }
}
