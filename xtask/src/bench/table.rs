//! Saying what was found.

use super::Figures;
use super::places::{Kind, Place};
use std::collections::BTreeMap;

/// Rows in the order they are shown, and what each is. The unit of `idle_bytes` and of those with PSS
/// and RSS is bytes, of the rows behind them a number; all others are nanoseconds.
const ROWS: &[(&str, &str)] = &[
    ("getppid_1", "getppid"),
    ("getppid_2", "getppid, 2 threads"),
    ("getppid_4", "getppid, 4 threads"),
    ("clock_gettime", "clock_gettime"),
    ("read", "read 1 byte"),
    ("write", "write 1 byte"),
    ("open", "open, close"),
    ("stat", "stat"),
    ("pipe_processes", "pipe, 2 processes"),
    ("pipe_threads", "pipe, 2 threads"),
    ("futex_processes", "futex, 2 processes"),
    ("futex_threads", "futex, 2 threads"),
    ("unix", "Unix socket, 1 byte"),
    ("unix_throughput", "Unix socket, 64 KiB"),
    ("thread", "thread, join"),
    ("create", "create, unlink"),
    ("fork", "fork, wait"),
    ("exec", "fork, exec, wait"),
    ("mmap", "mmap, 16 pages, munmap"),
    ("touch_1", "page touch"),
    ("touch_2", "page touch, 2 threads"),
    ("touch_4", "page touch, 4 threads"),
    ("touch_plain", "page touch, no advice"),
    ("touch_huge", "page touch, huge pages"),
    ("ptrace_1", "raw ptrace"),
    ("ptrace_2", "raw ptrace, 2"),
    ("ptrace_4", "raw ptrace, 4"),
    ("kvm_1", "raw kvm"),
    ("kvm_2", "raw kvm, 2"),
    ("kvm_4", "raw kvm, 4"),
    ("memfd_1", "raw memfd touch"),
    ("memfd_2", "raw memfd touch, 2"),
    ("memfd_4", "raw memfd touch, 4"),
    ("start", "start to exit of true"),
    ("python", "the same of Python"),
    ("git_status", "the same of git status"),
    ("compile", "the same of gcc -c"),
    ("life_create", "create"),
    ("life_start", "start"),
    ("life_exec", "exec of true"),
    ("life_delete", "delete --force"),
    ("life_whole", "all four"),
    ("idle_bytes", "idle, memory"),
    ("idle_pss_run", "idle, PSS of run"),
    ("idle_pss_boot", "idle, PSS of sandbox"),
    ("idle_pss_gofer", "idle, PSS of gofer"),
    ("idle_rss_run", "idle, RSS of run"),
    ("idle_rss_boot", "idle, RSS of sandbox"),
    ("idle_rss_gofer", "idle, RSS of gofer"),
    ("idle_processes", "idle, processes"),
    ("idle_wakeups", "idle, switches a second"),
];
/// What is held against runsc on the same platform.
const AGAINST_RUNSC: &[&str] = &[
    "getppid_1",
    "read",
    "write",
    "open",
    "stat",
    "pipe_processes",
    "pipe_threads",
    "fork",
    "exec",
];

/// All figures; behind those of a runtime, how many times native it is.
pub(super) fn print(figures: &Figures, places: &[Place]) {
    print!("\n{:<24}", "");
    for place in places {
        print!("{:>22}", place.name);
    }
    println!();
    for (row, title) in ROWS {
        if !places.iter().any(|p| figures.get(&p.name, row).is_some()) {
            continue;
        }
        print!("{title:<24}");
        for place in places {
            let Some(value) = figures.get(&place.name, row) else {
                print!("{:>22}", "-");
                continue;
            };
            let native = figures
                .get("native", row)
                .filter(|_| place.kind != Kind::Native);
            let ratio = native.map_or(String::new(), |n| times(value / n));
            print!("{:>13} {ratio:>8}", shown(row, value));
        }
        println!();
    }
}

fn times(ratio: f64) -> String {
    match ratio {
        r if r < 10.0 => format!("×{r:.2}"),
        r => format!("×{r:.0}"),
    }
}

fn shown(row: &str, value: f64) -> String {
    match row {
        "idle_processes" | "idle_wakeups" => format!("{value:.1}"),
        _ if row.starts_with("idle_") => format!("{:.1} MiB", value / f64::from(1 << 20)),
        _ if value < 1e3 => format!("{value:.0} ns"),
        _ if value < 1e6 => format!("{:.2} µs", value / 1e3),
        _ => format!("{:.2} ms", value / 1e6),
    }
}

/// One goal: the figure, what it is held against, and how many times that it may be.
struct Goal {
    what: String,
    figure: Option<f64>,
    against: Option<f64>,
    most: f64,
}

/// Each goal with what was reached. A goal whose figures were not taken is left out.
pub(super) fn targets(figures: &Figures, places: &[Place]) {
    println!();
    for place in places.iter().filter(|p| p.kind == Kind::Ours) {
        for goal in goals(figures, place) {
            let (Some(figure), Some(against)) = (goal.figure, goal.against) else {
                continue;
            };
            let ratio = figure / against;
            let verdict = if ratio <= goal.most { "met" } else { "MISSED" };
            println!(
                "{:<18} {:<46} {ratio:>6.2}  of at most {:>4.2}  {verdict}",
                place.name, goal.what, goal.most
            );
        }
    }
}

fn goals(figures: &Figures, place: &Place) -> Vec<Goal> {
    let ours = |row: &str| figures.get(&place.name, row);
    let platform = place.name.rsplit('/').next().unwrap_or_default();
    let mut goals = Vec::new();
    let mut add = |what: String, figure, against, most| {
        goals.push(Goal {
            what,
            figure,
            against,
            most,
        });
    };
    for threads in ["1", "2", "4"] {
        // There are such rows for the platforms of the tree.
        add(
            format!("getppid, {threads} busy, against raw {platform}"),
            ours(&format!("getppid_{threads}")),
            figures.get("native", &format!("{platform}_{threads}")),
            1.3,
        );
        add(
            format!("page touch, {threads} busy, against raw memfd"),
            ours(&format!("touch_{threads}")),
            figures.get("native", &format!("memfd_{threads}")),
            1.2,
        );
    }
    add(
        "start to exit against runc".to_owned(),
        ours("start"),
        figures.get("runc", "start"),
        1.0,
    );
    add(
        "start to exit against 20 ms".to_owned(),
        ours("start"),
        Some(20e6),
        1.0,
    );
    add(
        "idle memory against 8 MiB".to_owned(),
        ours("idle_bytes"),
        Some(f64::from(8 << 20)),
        1.0,
    );
    let peer = format!("runsc/{platform}");
    add(
        format!("start to exit against {peer}"),
        ours("start"),
        figures.get(&peer, "start"),
        0.25,
    );
    add(
        format!("idle memory against {peer}"),
        ours("idle_bytes"),
        figures.get(&peer, "idle_bytes"),
        0.25,
    );
    for row in AGAINST_RUNSC {
        // A KVM exit costs what it costs: there, as fast is good enough.
        let most = if platform == "kvm" && *row == "getppid_1" {
            1.0
        } else {
            0.5
        };
        add(
            format!("{row} against {peer}"),
            ours(row),
            figures.get(&peer, row),
            most,
        );
    }
    goals
}

/// By place, then row.
pub(super) fn json(figures: &Figures) -> String {
    let mut all: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
    for ((place, row), value) in &figures.0 {
        all.entry(place).or_default().insert(row, *value);
    }
    format!("{:#}\n", serde_json::json!(all))
}
