//! Fuzzing on stable Rust: mutations of a kept corpus, some seconds' worth in every run of the
//! tests, as long as wanted with `RINGFENCE_FUZZ_SECONDS`.
//!
//! There is no feedback from coverage; an input that is accepted is the start of further ones.
#![forbid(unsafe_code)]

use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For how many seconds instead, from a seed of its own.
const SECONDS: &str = "RINGFENCE_FUZZ_SECONDS";
/// A seed to start from, as a run said it.
const SEED: &str = "RINGFENCE_FUZZ_SEED";
/// Most inputs to start from.
const POOL: usize = 2048;
/// Most bytes of an input.
const LONGEST: usize = 32 << 10;

/// Pseudo-random numbers (xorshift64*): the same for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One below `n`; 0 where there is none.
    pub fn below(&mut self, n: usize) -> usize {
        match n {
            0 => 0,
            n => (self.roll() >> 16) as usize % n,
        }
    }

    /// One of some.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

/// Lengths and numbers that decoders stumble over, as bincode and others write them.
const NUMBERS: [&[u8]; 10] = [
    &[0],
    &[250],
    &[251, 0xff, 0xff],
    &[252, 0xff, 0xff, 0xff, 0xff],
    &[252, 0, 0, 0, 0x80],
    &[253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[253, 0, 0, 0, 1, 0, 0, 0, 0],
    &[254, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0, 0, 0, 1],
];

/// Changes some bytes; `others` are inputs to take pieces from.
pub fn mutate(dice: &mut Dice, input: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(input.len() + 1);
        let end = (at + 1 + dice.below(16)).min(input.len());
        match dice.below(7) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = dice.roll() as u8;
                }
            }
            2 => input.truncate(at),
            3 => drop(input.drain(at.min(end)..end)),
            4 => {
                let number = dice.pick(&NUMBERS).copied().unwrap_or_default();
                let to = (at + number.len() * dice.below(2)).min(input.len());
                input.splice(at..to, number.iter().copied());
            }
            5 => {
                let piece = input.get(at.min(end)..end).unwrap_or_default().to_vec();
                let to = dice.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            _ => {
                let other = dice.pick(others).map(Vec::as_slice).unwrap_or_default();
                let from = dice.below(other.len());
                let piece = other.get(from..).unwrap_or_default().to_vec();
                input.truncate(at);
                input.extend(piece);
            }
        }
    }
    input.truncate(LONGEST);
}

/// Changes a node of a JSON document.
pub fn mutate_json(dice: &mut Dice, document: &mut Value) {
    let mut node = document;
    // Down to some node.
    loop {
        let members = match &*node {
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        };
        if members == 0 || dice.below(5) == 0 {
            break;
        }
        let which = dice.below(members);
        node = match node {
            Value::Array(list) => &mut list[which],
            Value::Object(map) => match map.values_mut().nth(which) {
                Some(value) => value,
                None => return,
            },
            _ => return,
        };
    }
    let odd = match dice.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(i64::MIN),
        5 => json!(1e308),
        6 => json!(""),
        7 => json!("/"),
        8 => json!("../../../etc/passwd"),
        9 => json!("a\u{0}b\n\u{1b}[2J\u{202e}"),
        10 => json!("x".repeat(5000)),
        11 => json!([]),
        12 => json!({}),
        13 => (0..dice.below(100)).fold(json!(0), |inner, _| json!([inner])),
        14 => {
            // A member more, or one twice as long.
            let copy = node.clone();
            match node {
                Value::Array(list) => list.extend(copy.as_array().cloned().unwrap_or_default()),
                Value::Object(map) => {
                    map.insert("\u{e9} unknown".to_owned(), json!({"a": [1, null]}));
                }
                Value::String(text) => text.push_str(&text.clone()),
                _ => {}
            }
            return;
        }
        _ => {
            if let Value::Object(map) = node
                && let Some(key) = map.keys().nth(dice.below(map.len())).cloned()
            {
                map.remove(&key);
            }
            return;
        }
    };
    *node = odd;
}

/// The files of a corpus, in order of their names.
///
/// # Panics
/// When it cannot be read or is empty.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().flat_map(std::fs::read).collect();
    assert!(!files.is_empty(), "{} is empty", dir.display());
    files
}

/// Tries `inputs` inputs made from `seeds` by `change`. `accepts` says whether it took an input; its panics
/// are what is looked for, and leave the input in a file.
///
/// # Panics
/// When `accepts` does.
pub fn campaign(
    name: &str,
    inputs: u64,
    seeds: Vec<Vec<u8>>,
    change: impl Fn(&mut Dice, &mut Vec<u8>, &[Vec<u8>]),
    mut accepts: impl FnMut(&[u8]) -> bool,
) {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seconds = number(SECONDS);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let fresh = seconds.map(|_| now.as_nanos() as u64);
    let seed = number(SEED).or(fresh).unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    let mut dice = Dice::new(seed);
    let (mut pool, mut tried, mut taken) = (seeds, 0u64, 0u64);
    let kept = pool.len();
    let more = |tried: u64| match seconds {
        Some(_) => Instant::now() < end,
        None => tried < inputs,
    };
    while more(tried) {
        let mut input = dice.pick(&pool).cloned().unwrap_or_default();
        change(&mut dice, &mut input, &pool);
        tried += 1;
        match catch_unwind(AssertUnwindSafe(|| accepts(&input))) {
            Ok(false) => {}
            Ok(true) => {
                taken += 1;
                if pool.len() < POOL {
                    pool.push(input);
                } else {
                    let at = kept + dice.below(POOL - kept);
                    pool[at] = input;
                }
            }
            Err(_) => {
                let file = std::env::temp_dir().join(format!("ringfence-fuzz-{name}"));
                let written = std::fs::write(&file, &input);
                panic!(
                    "{name}: input {tried} of {SEED}={seed} panics; {} holds it ({written:?})",
                    file.display()
                );
            }
        }
    }
    println!("{name}: {tried} inputs from {SEED}={seed}, {taken} accepted");
}
