//! `debug --profile-…`: what comes out is read here as pprof does.

use crate::case::{Result, cases, ensure, equal, exited, failed, refused, said};
use crate::place::{Place, eventually};
use flate2::read::GzDecoder;
use prost::Message;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

cases!("profiling":
    cpu_time_is_where_system_calls_are_handled,
    what_is_allocated_is_told_from_what_is_kept,
    sleeps_count_even_before_they_are_over,
    waits_for_locks_are_a_profile_too,
    being_profiled_disturbs_nobody,
    a_profile_ends_with_the_container,
    what_cannot_be_profiled,
);

/// The format's messages, as far as they are looked at.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "4")]
    file: i64,
}

/// A profile: what it counts, and for each stack the functions with their files, the innermost
/// first, with its values.
struct Seen {
    types: Vec<String>,
    stacks: Vec<(Vec<String>, Vec<i64>)>,
    duration: i64,
}

fn read(file: &Path) -> Result<Seen> {
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(file)?).read_to_end(&mut bytes)?;
    let profile = match Profile::decode(bytes.as_slice()) {
        Ok(profile) => profile,
        Err(e) => return failed(format!("{}: {e}", file.display())),
    };
    let text = |number: i64| {
        let number = usize::try_from(number).ok();
        let text = number.and_then(|n| profile.string_table.get(n));
        text.cloned().unwrap_or_else(|| "no such string".to_owned())
    };
    let functions: HashMap<u64, String> = profile
        .function
        .iter()
        .map(|f| (f.id, format!("{} {}", text(f.name), text(f.file))))
        .collect();
    let mut locations: HashMap<u64, Vec<String>> = HashMap::new();
    for location in &profile.location {
        let names = location
            .line
            .iter()
            .map(|l| functions.get(&l.function_id).cloned());
        let Some(names) = names.collect() else {
            return failed("a location names no function".to_owned());
        };
        locations.insert(location.id, names);
    }
    let mut stacks = Vec::new();
    for sample in &profile.sample {
        let mut names = Vec::new();
        for id in &sample.location_id {
            match locations.get(id) {
                Some(location) => names.extend(location.iter().cloned()),
                None => return failed("a sample names no location".to_owned()),
            }
        }
        equal(
            "values of a sample",
            &sample.value.len(),
            &profile.sample_type.len(),
        )?;
        stacks.push((names, sample.value.clone()));
    }
    Ok(Seen {
        types: profile.sample_type.iter().map(|t| text(t.kind)).collect(),
        stacks,
        duration: profile.duration_nanos,
    })
}

impl Seen {
    /// How much of value `n` is in stacks that have all of `words` among their functions.
    fn of(&self, words: &[&str], n: usize) -> i64 {
        let has = |names: &[String]| words.iter().all(|w| names.iter().any(|n| n.contains(w)));
        let stacks = self.stacks.iter().filter(|(names, _)| has(names));
        stacks.filter_map(|(_, values)| values.get(n)).sum()
    }
}

/// Makes calls of many kinds, and processes.
const BUSY: &str = "while :; do read x < /etc/passwd; ls -l / > /dev/null; done";

/// A profile of the container `c`, with a flame graph.
fn profile(place: &Place<'_>, kind: &str, seconds: &str) -> Result<(Seen, String)> {
    let file = place.dir.join("profile.pb.gz");
    let option = format!("--profile-{kind}={}", file.display());
    let line = ["debug", &option, "--svg", "--duration", seconds, "c"];
    exited(&place.ringfence(&line), 0)?;
    let svg = std::fs::read_to_string(place.dir.join("profile.pb.gz.svg"))?;
    Ok((read(&file)?, svg))
}

fn types(profile: &Seen, expected: &[&str]) -> Result {
    let types: Vec<&str> = profile.types.iter().map(String::as_str).collect();
    equal("what is counted", &types, &expected.to_vec())
}

fn cpu_time_is_where_system_calls_are_handled(place: &Place<'_>) -> Result {
    place.started_with(&["--profile"], BUSY)?;
    eventually("profile with handlers", || {
        let (profile, svg) = profile(place, "cpu", "0.5")?;
        types(&profile, &["samples", "cpu"])?;
        ensure(profile.duration >= 500_000_000, || {
            format!("duration {}", profile.duration)
        })?;
        Ok(
            profile.of(&["sentry/task/src/run.rs", "sentry/syscalls/src/"], 1) >= 10_000_000
                && svg.contains("sentry_task"),
        )
    })?;
    place.gone()
}

fn what_is_allocated_is_told_from_what_is_kept(place: &Place<'_>) -> Result {
    place.started_with(&["--profile"], BUSY)?;
    eventually("profile with allocations of the sentry's", || {
        let (profile, svg) = profile(place, "heap", "0.5")?;
        let all = [
            "alloc_objects",
            "alloc_space",
            "inuse_objects",
            "inuse_space",
        ];
        types(&profile, &all)?;
        for (names, values) in &profile.stacks {
            let good = matches!(values.as_slice(), [n, size, kept, left]
                if n >= kept && size >= left && *n > 0);
            ensure(good, || format!("{values:?} of {names:?}"))?;
            let own = |name: &String| name.contains("/boot/src/sys/");
            ensure(!names.iter().any(own), || format!("{names:?}"))?;
        }
        Ok(
            profile.of(&["sentry/task/src/", "sentry/syscalls/src/"], 1) > 0
                && profile.of(&[], 1) > profile.of(&[], 3)
                && svg.contains("sentry_"),
        )
    })?;
    place.gone()
}

fn sleeps_count_even_before_they_are_over(place: &Place<'_>) -> Result {
    place.started_with(
        &["--profile"],
        "(while :; do sleep 0.01; done) & exec sleep 1000",
    )?;
    eventually("profile with both sleepers", || {
        let (profile, svg) = profile(place, "block", "0.5")?;
        types(&profile, &["contentions", "delay"])?;
        let asleep = |n| profile.of(&["sleep"], n);
        // One has slept all the time, the other again and again.
        Ok(asleep(0) > 3 && asleep(1) > 500_000_000 && svg.contains("sleep"))
    })?;
    place.gone()
}

fn waits_for_locks_are_a_profile_too(place: &Place<'_>) -> Result {
    // Whether there are any is chance.
    place.started_with(&["--profile"], &format!("({BUSY}) & ({BUSY}) & {BUSY}"))?;
    let (profile, svg) = profile(place, "mutex", "0.5")?;
    types(&profile, &["contentions", "delay"])?;
    for (names, values) in &profile.stacks {
        ensure(values.iter().all(|v| *v > 0), || {
            format!("{values:?} of {names:?}")
        })?;
    }
    ensure(svg.contains("<svg"), || svg.clone())?;
    place.gone()
}

/// Calls that wait are not cut short, and nothing is lost of what goes on.
fn being_profiled_disturbs_nobody(place: &Place<'_>) -> Result {
    let script = "n=0; while [ $n -lt 300 ]; do n=$((n + $(echo 1))); done | cat; sleep 0.5;
        seq 1 20000 | sort -n | tail -n 1; while read x; do echo $x; done < /etc/passwd | wc -l";
    for kind in ["cpu", "heap", "block", "mutex"] {
        let dir = place.shell(script, |_| {})?;
        let mut command = place.runtime.command();
        command.args(["--profile", "run", "-b"]).arg(&dir).arg("c");
        let mut run = place.spawn(&mut command)?;
        let file = place.dir.join("profile");
        let option = format!("--profile-{kind}={}", file.display());
        // One profile after the other, from before the start to the end.
        let mut profiles = 0;
        while run.is_running()? {
            let line = ["debug", &option, "--duration", "600", "c"];
            profiles += u32::from(place.ringfence(&line).code() == Some(0));
        }
        ensure(profiles > 0, || "it was over too soon".to_owned())?;
        equal("end", &run.finish(), &"exit 0".to_owned())?;
        let output = run.output();
        let lines: Vec<&str> = output.lines().collect();
        ensure(
            matches!(lines.as_slice(), ["20000", n] if *n != "0"),
            || format!("with {kind}: {output}"),
        )?;
        place.nothing_left()?;
    }
    Ok(())
}

fn a_profile_ends_with_the_container(place: &Place<'_>) -> Result {
    place.started_with(&["--profile"], "exec sleep 1000")?;
    let file = place.dir.join("profile");
    let mut command = place.runtime.command();
    command
        .args(["debug", "--duration", "5000", "--profile-block"])
        .arg(&file)
        .arg("c");
    let mut run = place.spawn(&mut command)?;
    let second = place.dir.join("second");
    let to = second.to_string_lossy().into_owned();
    eventually("profile under way", || {
        // This one's short profile may have been in the way of that.
        if !run.is_running()? {
            run = place.spawn(&mut command)?;
        }
        let line = ["debug", "--profile-cpu", &to, "--duration", "0.01", "c"];
        let outcome = place.ringfence(&line);
        Ok(outcome.code() == Some(128) && outcome.err().contains("already"))
    })?;
    exited(&place.ringfence(&["kill", "c", "KILL"]), 0)?;
    equal("end", &run.finish(), &"exit 0".to_owned())?;
    types(&read(&file)?, &["contentions", "delay"])?;
    place.gone()
}

fn what_cannot_be_profiled(place: &Place<'_>) -> Result {
    place.started("exec sleep 1000")?;
    let file = place.dir.join("profile");
    let to = file.to_string_lossy().into_owned();
    for kind in ["cpu", "heap", "block", "mutex"] {
        let option = format!("--profile-{kind}");
        let line = ["debug", &option, &to, "--svg", "--duration", "0.1", "c"];
        refused(
            &place.ringfence(&line),
            128,
            &["without --profile", "create"],
        )?;
        ensure(!file.exists(), || "an empty file is left".to_owned())?;
    }
    exited(&place.ringfence(&["delete", "--force", "c"]), 0)?;
    place.started_with(&["--profile"], "exec sleep 1000")?;
    let bad = [
        "debug",
        "--profile-cpu",
        "/proc/nothing/p",
        "--duration",
        "0.1",
        "c",
    ];
    refused(&place.ringfence(&bad), 128, &["/proc/nothing/p"])?;
    let idle = [
        "debug",
        "--profile-heap",
        "/dev/null",
        "--duration",
        "0.1",
        "c",
    ];
    exited(&place.ringfence(&idle), 0)?;
    said(&place.ringfence(&["kill", "c", "KILL"]), 0, "")?;
    eventually("stopped container", || Ok(place.status("c")? == "stopped"))?;
    let line = ["debug", "--profile-cpu", &to, "--duration", "0.1", "c"];
    refused(&place.ringfence(&line), 128, &["stopped"])?;
    place.gone()
}
