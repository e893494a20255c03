//! Counting what passed, failed and was skipped, and saying so at once.

use std::process::ExitCode;

/// The tally of one test program.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    failed: Vec<String>,
    skipped: usize,
}

impl Report {
    /// Counts a pass; says nothing, since there are hundreds.
    pub fn pass(&mut self) {
        self.passed += 1;
    }
    /// Counts a pass and names it.
    pub fn pass_named(&mut self, name: &str) {
        println!("ok      {name}");
        self.passed += 1;
    }
    /// Counts a failure and says what was wrong.
    pub fn fail(&mut self, name: &str, why: &str) {
        println!("FAILED  {name}");
        for line in why.lines() {
            println!("        {line}");
        }
        self.failed.push(name.to_owned());
    }
    /// Counts what this machine can't run, loudly.
    pub fn skip(&mut self, name: &str, reason: &str) {
        println!("SKIPPED {name}: {reason}");
        self.skipped += 1;
    }
    /// Whether nothing failed so far.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty()
    }
    /// Prints the closing line and gives the status to exit with.
    pub fn close(self, what: &str) -> ExitCode {
        for name in &self.failed {
            println!("failed: {name}");
        }
        // The word order is what `cargo xtask` adds up.
        println!(
            "{what}: {} passed, {} failed, {} skipped",
            self.passed,
            self.failed.len(),
            self.skipped
        );
        if self.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// What `want` and `got` differ in, line by line, `-` being the wanted.
pub fn difference(want: &str, got: &str) -> String {
    const MOST: usize = 24;
    let (a, b): (Vec<&str>, Vec<&str>) = (want.lines().collect(), got.lines().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let rest = a.len().min(b.len()) - head;
    let tail = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take(rest)
        .take_while(|(x, y)| x == y)
        .count();
    let (a, b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut text = format!("from line {} on:\n", head + 1);
    if a.len() == b.len() {
        for (x, y) in a.iter().zip(b).filter(|(x, y)| x != y).take(MOST) {
            text += &format!("- {x}\n+ {y}\n");
        }
    } else {
        a.iter()
            .take(MOST)
            .for_each(|x| text += &format!("- {x}\n"));
        b.iter()
            .take(MOST)
            .for_each(|y| text += &format!("+ {y}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn equal_ends_are_left_out() {
        assert_eq!(
            difference("a\nb\nc", "a\nx\nc"),
            "from line 2 on:\n- b\n+ x\n"
        );
        assert_eq!(difference("a\nb", "a\nb\nc"), "from line 3 on:\n+ c\n");
    }
}
