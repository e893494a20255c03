//! Parameters of file systems, as mount(2)'s data and fsconfig(2) name them.

/// One that a type of file systems takes.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it is given.
    pub kind: ParameterKind,
}

/// What a parameter is given.
#[derive(Clone, Copy, Debug)]
pub enum ParameterKind {
    /// Nothing.
    Flag,
    /// A number, which may begin with `0x` or `0`.
    Number,
    /// A user's or a group's number.
    Id,
    /// Permission bits in octal.
    Mode,
    /// Bytes, with a suffix (`64k`) or, where it says so, as a percentage.
    Size {
        /// Whether `50%` is one.
        percent: bool,
    },
    /// One of these.
    One(&'static [&'static str]),
    /// Whatever it is.
    Text,
}

/// A parameter of [`ParameterKind`].
pub const fn parameter(name: &'static str, kind: ParameterKind) -> Parameter {
    Parameter { name, kind }
}

/// What a parameter was given.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Flag,
    Text(Vec<u8>),
    /// Bytes, a place or a file: of no use to any file system here.
    Other,
}

impl Parameter {
    /// Whether that is a value of it.
    ///
    /// # Errors
    /// What Linux says of it, which ends in `EINVAL`.
    pub(crate) fn check(&self, value: &Value) -> Result<(), Vec<String>> {
        let name = self.name;
        let bad = || format!("Bad value for '{name}'");
        let text = match (self.kind, value) {
            (ParameterKind::Flag, Value::Flag) => return Ok(()),
            (ParameterKind::Flag, _) => return Err(vec![format!("Unexpected value for '{name}'")]),
            (_, Value::Text(text)) => std::str::from_utf8(text).map_err(|_| vec![bad()])?,
            _ => return Err(vec![bad()]),
        };
        let good = match self.kind {
            ParameterKind::Flag => false,
            ParameterKind::Number => number(text).is_some(),
            ParameterKind::Id => match number(text) {
                Some(u32::MAX) => return Err(vec![format!("Invalid {name} '{text}'")]),
                Some(_) => true,
                // Of these it is said twice.
                None => return Err(vec![bad(), bad()]),
            },
            ParameterKind::Mode => u32::from_str_radix(text, 8).is_ok(),
            ParameterKind::Size { percent } => is_size(text, percent),
            ParameterKind::One(all) => all.contains(&text),
            ParameterKind::Text => !text.is_empty(),
        };
        if good { Ok(()) } else { Err(vec![bad()]) }
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if let Some(hex) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        return u32::from_str_radix(hex, 16).ok();
    }
    match digits.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        _ => digits.parse().ok(),
    }
}

/// As memparse() of Linux takes it, with nothing behind.
fn is_size(text: &str, percent: bool) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = match rest.len() == text.len() {
        true => return text.is_empty() || rest.is_empty(),
        false => rest,
    };
    let suffixes = [
        "", "k", "K", "m", "M", "g", "G", "t", "T", "p", "P", "e", "E",
    ];
    suffixes.contains(&rest) || (percent && rest == "%")
}
