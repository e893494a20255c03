//! `debug --profile-…`: from samples to pprof's format and a flame graph.
//!
//! Samples are put together as they come: what is kept is one record for each different stack, and
//! names are looked up in the end. What comes is the sandbox's word: frames, stacks and ids are
//! bounded in number, and numbers saturate.

use crate::args::Debug;
use crate::debug::unwritten;
use crate::pprof::{self, Label, Line, Location, Mapping, Sample, Strings, ValueType};
use crate::setup::Failure;
use crate::symbols::{Function, Symbols};
use inferno::flamegraph;
use launcher::profile::Heard;
use launcher::{
    CPU_PERIOD, Container, HEAP_RATE, LaunchError, Module, ProfileKind, SampleHead, WAIT_RATE,
};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Most frames of a stack that are told apart.
const MAX_FRAMES: usize = 128;
/// Most different stacks.
const MAX_STACKS: usize = 1 << 16;
/// Most sampled allocations that may be told to be still there.
const MAX_LIVE: usize = 1 << 20;
/// Stands for the frames below the last one that is known.
const CUT_OFF: u64 = 0;

/// The profile that was asked for, if any, and its file.
pub(crate) fn wanted(debug: &Debug) -> Option<(ProfileKind, &Path)> {
    let all = [
        (ProfileKind::Cpu, &debug.profile_cpu),
        (ProfileKind::Heap, &debug.profile_heap),
        (ProfileKind::Block, &debug.profile_block),
        (ProfileKind::Mutex, &debug.profile_mutex),
    ];
    let mut given = all
        .into_iter()
        .filter_map(|(kind, path)| Some((kind, path.as_deref()?)));
    given.next()
}

/// Makes it; with `svg`, a flame graph too.
pub(crate) fn run(
    container: &Container,
    kind: ProfileKind,
    path: &Path,
    svg: Option<&Option<PathBuf>>,
    duration: Duration,
) -> Result<(), Failure> {
    // What cannot be written is known before the time is spent.
    let file = Output::new(path)?;
    let svg = svg.map(|name| {
        let beside = || {
            let mut name = path.as_os_str().to_owned();
            name.push(".svg");
            PathBuf::from(name)
        };
        Output::new(&name.clone().unwrap_or_else(beside))
    });
    let svg = svg.transpose()?;
    let (at, began) = (SystemTime::now(), Instant::now());
    let mut recording = Recording::new(kind);
    let profiled = container.profile(kind, duration, |heard| recording.hear(heard))?;
    let time = at.duration_since(SystemTime::UNIX_EPOCH);
    let stacks = recording.finish();
    let mut profile = stacks.pprof();
    profile.time_nanos = nanos(time.unwrap_or_default());
    profile.duration_nanos = nanos(began.elapsed());
    file.write(|to| pprof::write(&profile, to))?;
    if let Some(svg) = svg {
        svg.write(|to| stacks.draw(to))?;
    }
    if stacks.stacks.is_empty() {
        tracing::warn!("nothing was sampled: {}", describe(kind).nothing);
    }
    let lost = profiled.lost.saturating_add(stacks.dropped);
    if lost > 0 {
        let all = profiled.samples.saturating_add(profiled.lost);
        tracing::warn!("{lost} of {all} samples are not in the profile: they came too quickly");
    }
    Ok(())
}

/// A file of the caller's. One that was made for this is not left behind empty.
struct Output {
    path: PathBuf,
    file: File,
    empty: bool,
}

impl Output {
    fn new(path: &Path) -> Result<Output, LaunchError> {
        let made = File::options().write(true).create_new(true).open(path);
        let (file, empty) = match made {
            Ok(file) => (file, true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                let there = File::options().write(true).open(path);
                (there.map_err(unwritten(path))?, false)
            }
            Err(e) => return Err(unwritten(path)(e)),
        };
        Ok(Output {
            path: path.to_owned(),
            file,
            empty,
        })
    }

    fn write(
        mut self,
        content: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> Result<(), LaunchError> {
        let written = || {
            if self.file.metadata()?.is_file() {
                self.file.set_len(0)?;
            }
            let mut to = BufWriter::new(&self.file);
            content(&mut to)?;
            to.flush()
        };
        written().map_err(unwritten(&self.path))?;
        self.empty = false;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.empty {
            let _it_may_be_gone = fs::remove_file(&self.path);
        }
    }
}

/// How a kind of profile is described to people and to pprof.
struct Description {
    /// What is counted of an event, and its unit, for each of a stack's values.
    types: &'static [(&'static str, &'static str)],
    /// Which of them is shown first.
    main: usize,
    title: &'static str,
    /// What the flame graph counts, and how many of the main value are one of those.
    unit: (&'static str, f64),
    period: (&'static str, &'static str, u64),
    /// Why there may be no samples.
    nothing: &'static str,
}

fn describe(kind: ProfileKind) -> Description {
    const CONTENTION: &[(&str, &str)] = &[("contentions", "count"), ("delay", "nanoseconds")];
    match kind {
        ProfileKind::Cpu => Description {
            types: &[("samples", "count"), ("cpu", "nanoseconds")],
            main: 1,
            title: "CPU time of the sandbox's kernel",
            unit: ("microseconds", 1e3),
            period: ("cpu", "nanoseconds", CPU_PERIOD),
            nothing: "no thread of the sandbox's kernel ran for a hundredth of a second",
        },
        ProfileKind::Heap => Description {
            types: &[
                ("alloc_objects", "count"),
                ("alloc_space", "bytes"),
                ("inuse_objects", "count"),
                ("inuse_space", "bytes"),
            ],
            main: 1,
            title: "Memory allocated by the sandbox's kernel",
            unit: ("bytes", 1.0),
            period: ("space", "bytes", HEAP_RATE),
            nothing: "hardly anything was allocated",
        },
        ProfileKind::Block => Description {
            types: CONTENTION,
            main: 1,
            title: "Sleeps of the sandbox's tasks",
            unit: ("microseconds", 1e3),
            period: ("contentions", "count", WAIT_RATE),
            nothing: "no task slept",
        },
        ProfileKind::Mutex => Description {
            types: CONTENTION,
            main: 1,
            title: "Waiting for locks in the sandbox's kernel",
            unit: ("microseconds", 1e3),
            period: ("contentions", "count", WAIT_RATE),
            nothing: "no thread waited for a lock",
        },
    }
}

/// Samples with the same stack.
struct Stack {
    tid: u64,
    thread: String,
    /// Addresses, the innermost first.
    frames: Vec<u64>,
    /// How many and how much, and the same of what was still there at the end.
    values: [f64; 4],
}

/// A profile in the making.
struct Recording {
    kind: ProfileKind,
    modules: Vec<Module>,
    symbols: Symbols,
    stacks: Vec<Stack>,
    numbers: HashMap<(u64, Vec<u64>), usize>,
    /// Of allocations: their stack, and what they count for.
    live: HashMap<u64, (usize, [f64; 2])>,
    dropped: u64,
}

impl Recording {
    fn new(kind: ProfileKind) -> Recording {
        Recording {
            kind,
            modules: Vec::new(),
            symbols: Symbols::new(&[], Path::new("")),
            stacks: Vec::new(),
            numbers: HashMap::new(),
            live: HashMap::new(),
            dropped: 0,
        }
    }

    fn hear(&mut self, heard: Heard<'_>) {
        match heard {
            Heard::Begun {
                modules,
                executable,
            } => {
                self.symbols = Symbols::new(&modules, &executable);
                self.modules = modules;
            }
            Heard::Sample {
                head,
                stack,
                thread,
            } => self.sample(&head, stack, thread),
            Heard::Live(id) => {
                if let Some((stack, weight)) = self.live.remove(&id)
                    && let Some(stack) = self.stacks.get_mut(stack)
                {
                    let [_, _, count, amount] = &mut stack.values;
                    *count += weight[0];
                    *amount += weight[1];
                }
            }
        }
    }

    fn sample(&mut self, head: &SampleHead, stack: &[u8], thread: &str) {
        let (frames, whole) = self.symbols.unwind(head.into(), stack);
        let mut addresses: Vec<u64> = frames.iter().map(|f| f.address_for_lookup()).collect();
        if !whole || addresses.len() > MAX_FRAMES {
            addresses.truncate(MAX_FRAMES);
            addresses.push(CUT_OFF);
        }
        let weight = weight(self.kind, head.value);
        let key = (head.tid, addresses);
        let number = match self.numbers.get(&key) {
            Some(&number) => number,
            None if self.stacks.len() < MAX_STACKS => {
                let number = self.stacks.len();
                self.stacks.push(Stack {
                    tid: key.0,
                    thread: thread.to_owned(),
                    frames: key.1.clone(),
                    values: [0.0; 4],
                });
                self.numbers.insert(key, number);
                number
            }
            None => {
                self.dropped += 1;
                return;
            }
        };
        if let Some(stack) = self.stacks.get_mut(number) {
            let [count, amount, ..] = &mut stack.values;
            *count += weight[0];
            *amount += weight[1];
        }
        if self.kind == ProfileKind::Heap && self.live.len() < MAX_LIVE {
            self.live.insert(head.id, (number, weight));
        }
    }

    /// Looks the names up.
    fn finish(self) -> Stacks {
        let mut places: HashMap<u64, Place> = HashMap::new();
        for &address in self.stacks.iter().flat_map(|s| &s.frames) {
            places
                .entry(address)
                .or_insert_with(|| place(&self.symbols, address));
        }
        let mut stacks = self.stacks;
        if self.kind != ProfileKind::Cpu {
            for stack in &mut stacks {
                let own = |address: &&u64| places.get(*address).is_some_and(|p| p.is_profiler());
                let own = stack.frames.iter().take_while(own).count();
                stack.frames.drain(..own);
                // The rest of it, where that was inlined into its caller.
                let first = stack.frames.first();
                if let Some(place) = first.and_then(|address| places.get_mut(address)) {
                    let own = place.functions.iter().take_while(|f| f.is_profiler());
                    let own = own.count();
                    place.functions.drain(..own);
                }
            }
        }
        Stacks {
            kind: self.kind,
            modules: self.modules,
            stacks,
            places,
            dropped: self.dropped,
        }
    }
}

/// For how many events a sampled one stands, and for how much: what was left to chance is made up
/// for.
fn weight(kind: ProfileKind, value: u64) -> [f64; 2] {
    let amount = value.max(1) as f64;
    let chance = match kind {
        ProfileKind::Cpu => return [amount / CPU_PERIOD as f64, amount],
        ProfileKind::Heap => -(-amount / HEAP_RATE as f64).exp_m1(),
        ProfileKind::Block | ProfileKind::Mutex => (amount / WAIT_RATE as f64).min(1.0),
    };
    [1.0 / chance, amount / chance]
}

/// What is at an address.
struct Place {
    /// Number of its module.
    module: Option<usize>,
    /// The innermost of what was inlined first; one at least.
    functions: Vec<Function>,
}

fn place(symbols: &Symbols, address: u64) -> Place {
    let named = |name: String| Function { name, place: None };
    let mut functions = match address {
        CUT_OFF => vec![named("[cut off]".to_owned())],
        _ => symbols.functions(address),
    };
    if functions.is_empty() {
        functions.push(named(symbols.place(address)));
    }
    Place {
        module: symbols.module(address),
        functions,
    }
}

impl Place {
    /// Whether this is how a sample is taken, and nothing else.
    fn is_profiler(&self) -> bool {
        self.functions.iter().all(Function::is_profiler)
    }
}

impl Function {
    /// Whether it takes samples, or is on the way there.
    fn is_profiler(&self) -> bool {
        const FILES: [&str; 4] = [
            "sentry/boot/src/sys/heap.rs",
            "sentry/boot/src/sys/sampler.rs",
            "sentry/boot/src/profile.rs",
            "sentry/sync/src/observe.rs",
        ];
        const ALLOCATOR: [&str; 2] = ["__rust_alloc", "__rust_realloc"];
        let file = self.place.as_ref().map(|(file, _)| file);
        ALLOCATOR.iter().any(|name| self.name.contains(name))
            || file.is_some_and(|file| FILES.iter().any(|own| file.ends_with(own)))
    }
}

/// A whole profile.
struct Stacks {
    kind: ProfileKind,
    modules: Vec<Module>,
    stacks: Vec<Stack>,
    places: HashMap<u64, Place>,
    /// Samples of stacks that were too many.
    dropped: u64,
}

impl Stacks {
    fn pprof(&self) -> pprof::Profile {
        let description = describe(self.kind);
        let mut strings = Strings::default();
        let mut typed = |(kind, unit): (&str, &str)| ValueType {
            kind: strings.number(kind),
            unit: strings.number(unit),
        };
        let types: Vec<ValueType> = description.types.iter().map(|t| typed(*t)).collect();
        let (period_kind, period_unit, period) = description.period;
        let period_type = typed((period_kind, period_unit));
        let mut out = pprof::Profile {
            default_sample_type: types.get(description.main).map_or(0, |t| t.kind),
            sample_type: types,
            period_type: Some(period_type),
            period: i64::try_from(period).unwrap_or(i64::MAX),
            ..pprof::Profile::default()
        };
        for (module, id) in self.modules.iter().zip(1..) {
            let name = match module.name.as_str() {
                "" => "ringfence",
                name => name,
            };
            let build_id: String = module.build_id.iter().map(|b| format!("{b:02x}")).collect();
            out.mapping.push(Mapping {
                id,
                memory_start: module.start,
                memory_limit: module.end,
                filename: strings.number(name),
                build_id: strings.number(&build_id),
                // They have been looked up already, as far as they are known.
                has_functions: true,
                has_filenames: true,
                has_line_numbers: true,
                has_inline_frames: true,
            });
        }
        let mut functions: HashMap<(i64, i64), u64> = HashMap::new();
        let mut locations: HashMap<u64, u64> = HashMap::new();
        let mut addresses: Vec<&u64> = self.places.keys().collect();
        addresses.sort_unstable();
        for &address in addresses {
            let Some(place) = self.places.get(&address) else {
                continue;
            };
            let mut line = Vec::new();
            for function in &place.functions {
                let (file, number) = match &function.place {
                    Some((file, number)) => (file.as_str(), *number),
                    None => ("", 0),
                };
                let (name, filename) = (strings.number(&function.name), strings.number(file));
                let id = *functions.entry((name, filename)).or_insert_with(|| {
                    let id = out.function.len() as u64 + 1;
                    out.function.push(pprof::Function {
                        id,
                        name,
                        system_name: name,
                        filename,
                    });
                    id
                });
                line.push(Line {
                    function_id: id,
                    line: i64::from(number),
                });
            }
            let id = out.location.len() as u64 + 1;
            locations.insert(address, id);
            out.location.push(Location {
                id,
                mapping_id: place.module.map_or(0, |n| n as u64 + 1),
                address,
                line,
            });
        }
        let (thread_key, tid_key) = (strings.number("thread"), strings.number("tid"));
        for stack in &self.stacks {
            let location = |address| locations.get(address).copied();
            let values = stack.values.iter().take(description.types.len());
            let label = |key, str, num| Label { key, str, num };
            let thread = strings.number(&stack.thread);
            let tid = i64::try_from(stack.tid).unwrap_or(i64::MAX);
            out.sample.push(Sample {
                location_id: stack.frames.iter().filter_map(location).collect(),
                // Saturates.
                value: values.map(|v| v.round() as i64).collect(),
                label: vec![label(thread_key, thread, 0), label(tid_key, 0, tid)],
            });
        }
        out.string_table = strings.table();
        out
    }

    /// Stacks as lines, the outermost first, with their main value behind.
    fn folded(&self) -> Vec<String> {
        let description = describe(self.kind);
        let line = |stack: &Stack| {
            let places = stack.frames.iter().rev().filter_map(|a| self.places.get(a));
            let names = places.flat_map(|p| p.functions.iter().rev().map(label));
            let thread = match stack.thread.as_str() {
                "" => "?",
                name => name,
            };
            // A semicolon stands between frames.
            let names: Vec<String> = std::iter::once(thread.to_owned())
                .chain(names)
                .map(|name| name.replace(';', ","))
                .collect();
            let value = stack.values.get(description.main).copied().unwrap_or(0.0);
            let value = (value / description.unit.1).round() as u64;
            (value > 0).then(|| format!("{} {value}", names.join(";")))
        };
        self.stacks.iter().filter_map(line).collect()
    }

    fn draw(&self, to: impl Write) -> io::Result<()> {
        let description = describe(self.kind);
        let mut options = flamegraph::Options::default();
        options.title = description.title.to_owned();
        options.count_name = description.unit.0.to_owned();
        let lines = self.folded();
        let drawn = flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), to);
        match drawn {
            // It has drawn that there is nothing.
            Err(e) if lines.is_empty() && e.kind() == ErrorKind::InvalidData => Ok(()),
            drawn => drawn,
        }
    }
}

/// What a function is called where there is no room for more: with its crate, one way or another.
fn label(function: &Function) -> String {
    let name = &function.name;
    let place = function.place.as_ref().filter(|_| !name.contains("::"));
    let Some((file, _)) = place else {
        return name.clone();
    };
    let source = file.rfind("/src/").unwrap_or(0);
    let from = file[..source].rfind('/').map_or(0, |slash| slash + 1);
    format!("{name} ({})", &file[from..])
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(kind: ProfileKind) -> Recording {
        let mut recording = Recording::new(kind);
        recording.hear(Heard::Begun {
            modules: vec![Module {
                name: String::new(),
                base: 0x1000,
                start: 0x1000,
                end: 0x2000,
                build_id: vec![0xab, 1],
            }],
            executable: PathBuf::from("/nowhere"),
        });
        recording
    }

    fn sample(recording: &mut Recording, ip: u64, value: u64, id: u64) {
        let head = SampleHead {
            tid: 7,
            ip,
            value,
            id,
            ..SampleHead::default()
        };
        recording.hear(Heard::Sample {
            head,
            stack: &[],
            thread: "ta;sk",
        });
    }

    fn text(profile: &pprof::Profile, number: i64) -> &str {
        &profile.string_table[usize::try_from(number).unwrap()]
    }

    #[test]
    fn samples_of_one_stack_are_one() {
        let mut recording = begun(ProfileKind::Cpu);
        sample(&mut recording, 0x1234, CPU_PERIOD, 0);
        sample(&mut recording, 0x1234, 2 * CPU_PERIOD, 0);
        sample(&mut recording, 0x9999, CPU_PERIOD, 0);
        let stacks = recording.finish();
        let profile = stacks.pprof();
        let values: Vec<_> = profile.sample.iter().map(|s| s.value.clone()).collect();
        let period = CPU_PERIOD.cast_signed();
        assert_eq!(values, [vec![3, 3 * period], vec![1, period]]);
        assert_eq!(text(&profile, profile.sample_type[1].kind), "cpu");
        assert_eq!(text(&profile, profile.default_sample_type), "cpu");
        assert_eq!(text(&profile, profile.mapping[0].filename), "ringfence");
        assert_eq!(text(&profile, profile.mapping[0].build_id), "ab01");
        // All that is named is there.
        for sample in &profile.sample {
            assert!(!sample.location_id.is_empty());
            for id in &sample.location_id {
                let location = profile.location.iter().find(|l| l.id == *id).unwrap();
                let function = location.line[0].function_id;
                assert!(profile.function.iter().any(|f| f.id == function));
            }
        }
        let at = profile.location.iter().find(|l| l.address == 0x1234);
        assert_eq!(at.unwrap().mapping_id, 1);
        let folded = stacks.folded();
        assert_eq!(
            folded,
            ["ta,sk;ringfence+0x234 30000", "ta,sk;0x9999 10000"]
        );
    }

    #[test]
    fn a_stack_that_is_cut_off_says_so() {
        let mut recording = begun(ProfileKind::Cpu);
        let head = SampleHead {
            tid: 7,
            ip: 0x1234,
            sp: 0x7000,
            // Where the caller's frame would be, if the stack went that far.
            bp: 0x7100,
            value: CPU_PERIOD,
            id: 0,
        };
        recording.hear(Heard::Sample {
            head,
            stack: &[0; 64],
            thread: "task",
        });
        let folded = recording.finish().folded();
        assert_eq!(folded, ["task;[cut off];ringfence+0x234 10000"]);
    }

    #[test]
    fn allocations_that_are_left_are_told_apart() {
        let mut recording = begun(ProfileKind::Heap);
        // Far above the rate: each stands for itself.
        let size = 100 * HEAP_RATE;
        (1..=3).for_each(|id| sample(&mut recording, 0x1234, size, id));
        for id in [2, 2, 99] {
            recording.hear(Heard::Live(id));
        }
        let profile = recording.finish().pprof();
        let size = size.cast_signed();
        assert_eq!(profile.sample[0].value, [3, 3 * size, 1, size]);
    }

    #[test]
    fn what_is_left_to_chance_is_made_up_for() {
        assert_eq!(
            weight(ProfileKind::Block, 2 * WAIT_RATE),
            [1.0, 2.0 * WAIT_RATE as f64]
        );
        assert_eq!(
            weight(ProfileKind::Mutex, WAIT_RATE / 4),
            [4.0, WAIT_RATE as f64]
        );
        // One byte in so many.
        let [count, amount] = weight(ProfileKind::Heap, 1);
        let rate = HEAP_RATE as f64;
        assert!((rate..rate + 1.0).contains(&count) && count == amount);
        for kind in [ProfileKind::Heap, ProfileKind::Mutex, ProfileKind::Cpu] {
            for value in [0, 1, u64::MAX] {
                assert!(weight(kind, value).iter().all(|w| w.is_finite()));
            }
        }
    }

    #[test]
    fn any_samples_are_survived_and_cost_no_more_than_so_much() {
        let mut state = 1u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.rotate_left(32)
        };
        let mut recording = begun(ProfileKind::Heap);
        for _ in 0..MAX_STACKS + 1000 {
            let stack: Vec<u8> = (0..64).map(|_| random() as u8).collect();
            let head = SampleHead {
                tid: random(),
                ip: random(),
                sp: random(),
                bp: random(),
                value: random(),
                id: random(),
            };
            recording.hear(Heard::Sample {
                head,
                stack: &stack,
                thread: "",
            });
            recording.hear(Heard::Live(random()));
        }
        assert_eq!(recording.stacks.len(), MAX_STACKS);
        assert!(recording.dropped > 0);
        let stacks = recording.finish();
        assert_eq!(stacks.pprof().sample.len(), MAX_STACKS);
    }

    #[test]
    fn a_flame_graph_has_a_frame_for_each_name() {
        let mut recording = begun(ProfileKind::Block);
        sample(&mut recording, 0x1234, WAIT_RATE, 0);
        let mut svg = Vec::new();
        recording.finish().draw(&mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        for word in ["<svg", "ringfence+0x234", "ta,sk", "Sleeps of"] {
            assert!(svg.contains(word), "{word}");
        }
        let mut empty = Vec::new();
        begun(ProfileKind::Cpu).finish().draw(&mut empty).unwrap();
        assert!(empty.starts_with(b"<?xml"));
    }

    #[test]
    fn a_frame_tells_its_crate() {
        let function = |name: &str, file: Option<&str>| {
            label(&Function {
                name: name.to_owned(),
                place: file.map(|file| (file.to_owned(), 3)),
            })
        };
        let long = "/home/me/ringfence/sentry/task/src/run.rs";
        assert_eq!(function("step", Some(long)), "step (task/src/run.rs)");
        assert_eq!(function("step", Some("src/run.rs")), "step (src/run.rs)");
        assert_eq!(function("step", Some("run.rs")), "step (run.rs)");
        assert_eq!(function("step", Some("/src/é")), "step (/src/é)");
        assert_eq!(function("step", None), "step");
        assert_eq!(function("a::step", Some(long)), "a::step");
    }

    #[test]
    fn a_file_that_stays_empty_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        drop(Output::new(&path).unwrap());
        assert!(!path.exists());
        fs::write(&path, "something longer").unwrap();
        drop(Output::new(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"something longer");
        let output = Output::new(&path).unwrap();
        output.write(|to| to.write_all(b"short")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert!(Output::new(&dir.path().join("no/such")).is_err());
    }
}
