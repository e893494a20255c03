//! Where a case says what it saw: one line at a time, written at once, so that
//! nothing is lost or doubled when the case forks or dies.

use crate::k;

/// The writing end of the pipe to the runner.
#[derive(Clone, Copy)]
pub struct Out(i32);

impl Out {
    /// Says its lines to descriptor `fd`.
    pub fn new(fd: i32) -> Self {
        Self(fd)
    }

    /// Writes one line.
    pub fn line(self, text: &str) {
        let text = format!("{text}\n");
        k!(SYS_write, self.0, text.as_bytes(), text.len());
    }
}

/// `say!(o, "format", …)`: one line of a case's output.
#[macro_export]
macro_rules! say {
    ($o:expr, $($t:tt)*) => { $o.line(&format!($($t)*)) };
}

/// `tell!(o, expression…)`: each expression's text and its value.
#[macro_export]
macro_rules! tell {
    ($o:expr, $($name:literal => $e:expr),+ $(,)?) => {
        $($o.line(&format!("{}: {}", $name, $e));)+
    };
}
