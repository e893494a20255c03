//! What a sandbox says, on its way to a person's terminal.

/// Characters that change how others are shown: they could make a line say something else.
fn deceives(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}')
}

/// `text`, at most `most` bytes of it, without anything that a terminal would act on.
pub(crate) fn printable(text: &str, most: usize) -> String {
    let clean = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() || deceives(c) => '?',
        c => c,
    };
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    let mut shown: String = text[..end].chars().map(clean).collect();
    if end < text.len() {
        shown.push_str(" [...]");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_gets_through() {
        assert_eq!(
            printable("a\x1b]0;x\x07\r\u{9b}31m\u{202e}b\n\tc", 99),
            "a?]0;x???31m?b\n\tc"
        );
        assert_eq!(printable("\u{e4}\u{e4}", 3), "\u{e4} [...]");
        assert_eq!(printable("", 0), "");
    }
}
