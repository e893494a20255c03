use super::*;
use cgroups_rs::Subsystem;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuset::CpuSetController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use std::process::{Child, Command};

/// A version 2 tree of plain files.
#[derive(Debug)]
struct Plain(PathBuf);

impl Hierarchy for Plain {
    fn subsystems(&self) -> Vec<Subsystem> {
        let root = || self.0.clone();
        vec![
            Subsystem::Mem(MemController::new(root(), true)),
            Subsystem::Cpu(CpuController::new(root(), true)),
            Subsystem::CpuSet(CpuSetController::new(root(), true)),
            Subsystem::Pid(PidController::new(root(), true)),
        ]
    }
    fn root(&self) -> PathBuf {
        self.0.clone()
    }
    fn root_control_group(&self) -> Cgroup {
        Cgroup::load(Box::new(Plain(self.0.clone())), "")
    }
    fn parent_control_group(&self, _: &str) -> Cgroup {
        self.root_control_group()
    }
    fn v2(&self) -> bool {
        true
    }
}

fn asked() -> Resources {
    Resources {
        memory: Some(100 << 20),
        swap: Some(150 << 20),
        reservation: Some(50 << 20),
        shares: Some(1024),
        quota: Some(25_000),
        period: Some(50_000),
        cpus: Some("0".to_owned()),
        pids: Some(10),
        ..Resources::default()
    }
}

#[test]
fn version_2_gets_its_files_and_its_controllers() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let leaf = root.join("a/b");
    fs::create_dir_all(&leaf).unwrap();
    fs::write(leaf.join("cpu.max"), "max 100000").unwrap();
    for above in [root, &root.join("a")] {
        fs::write(above.join("cgroup.controllers"), "").unwrap();
    }
    let mut asked = asked();
    asked.unified.insert("memory.high".into(), "7".into());
    asked.unified.insert("pids.max".into(), "20".into());
    let place = Place::Absolute("a/b".to_owned());
    let plan = Plan::new(Box::new(Plain(root.to_owned())), &place, &asked);
    assert_eq!(plan.dirs(), std::slice::from_ref(&leaf));
    let group = plan.make().unwrap().unwrap();
    let read = |file: &str| fs::read_to_string(leaf.join(file)).unwrap();
    assert_eq!(
        read("memory.max"),
        limits::memory_above(100 << 20).to_string()
    );
    assert_eq!(read("memory.swap.max"), (50 << 20).to_string());
    assert_eq!(read("memory.low"), (50 << 20).to_string());
    assert_eq!(read("memory.high"), "7");
    assert_eq!(
        (read("cpu.weight"), read("cpu.max")),
        ("39".into(), "25000 50000".into())
    );
    assert_eq!(read("cpuset.cpus"), "0");
    assert_eq!(read("pids.max"), limits::tasks_above(20).to_string());
    // Plain files keep what was written last.
    let control = fs::read_to_string(root.join("a/cgroup.subtree_control")).unwrap();
    assert_eq!(control, "+pids");
    group.add(4711).unwrap();
    assert_eq!(read("cgroup.procs"), "4711");
    // Plain files keep the directory, too.
    group.keep();
}

#[test]
fn a_group_with_processes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a/cgroup.procs"), "1\n").unwrap();
    let asked = asked();
    let place = Place::Absolute("a".to_owned());
    let plan = Plan::new(Box::new(Plain(dir.path().to_owned())), &place, &asked);
    let error = plan.make().unwrap_err();
    assert!(matches!(error, CgroupError::Busy { .. }), "{error}");
    assert!(dir.path().join("a").exists());
}

#[test]
fn without_limits_a_tree_that_cannot_be_written_is_a_warning() {
    let plain = || Box::new(Plain("/proc/self/no-such-place".into()));
    let place = Place::Absolute("a".to_owned());
    let only_path = Resources {
        path: Some("/a".to_owned()),
        ..Resources::default()
    };
    assert!(
        Plan::new(plain(), &place, &only_path)
            .make()
            .unwrap()
            .is_none()
    );
    let asked = asked();
    let error = Plan::new(plain(), &place, &asked).make().unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("memory.limit") && text.contains("root"),
        "{text}"
    );
}

struct Sleeper(Child);

impl Sleeper {
    fn new() -> Sleeper {
        Sleeper(Command::new("sleep").arg("1000").spawn().unwrap())
    }
    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The host's own groups, where this user may make some.
fn on_this_host(name: &str, asked: &Resources) -> Option<Group> {
    let place = Place::Absolute(format!("{name}-{}", std::process::id()));
    let plan = Plan::new(hierarchies::auto(), &place, asked);
    if plan.dirs.is_empty() {
        eprintln!("skipped: no control groups with controllers are mounted here");
        return None;
    }
    match plan.make() {
        Ok(group) => group,
        Err(CgroupError::Refused { answer, .. }) => {
            eprintln!("skipped: control groups cannot be made here: {answer}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn a_process_is_limited_and_the_group_goes_after_it() {
    let asked = Resources {
        memory: Some(100 << 20),
        quota: Some(50_000),
        cpus: Some("0".to_owned()),
        pids: Some(10),
        ..Resources::default()
    };
    let Some(group) = on_this_host("ringfence-test-limits", &asked) else {
        return;
    };
    let mut sleeper = Sleeper::new();
    group.add(sleeper.pid()).unwrap();
    let of = fs::read_to_string(format!("/proc/{}/cgroup", sleeper.pid())).unwrap();
    let lines = of.lines().filter(|l| l.contains("ringfence-test-limits"));
    assert!(lines.count() >= 1, "{of}");
    let dirs = group.dirs.clone();
    let first = |files: [&str; 2]| {
        let files = files.map(|f| dirs.iter().map(move |d| d.join(f)));
        let found = files.into_iter().flatten().find(|p| p.exists());
        fs::read_to_string(found.unwrap())
            .unwrap()
            .trim()
            .to_owned()
    };
    // The host counts in pages.
    let memory = limits::memory_above(100 << 20) / 4096 * 4096;
    assert_eq!(
        first(["memory.limit_in_bytes", "memory.max"]),
        memory.to_string()
    );
    assert_eq!(
        first(["pids.max", "pids.max"]),
        limits::tasks_above(10).to_string()
    );
    assert_eq!(first(["cpuset.cpus", "cpuset.cpus"]), "0");
    assert!(first(["cpu.cfs_quota_us", "cpu.max"]).starts_with("50000"));
    sleeper.end();
    drop(group);
    for dir in dirs {
        assert!(!dir.exists(), "{} is left", dir.display());
    }
}

#[test]
fn a_limit_that_the_host_refuses_leaves_nothing() {
    let asked = Resources {
        cpus: Some("9999".to_owned()),
        ..Resources::default()
    };
    let place = Place::Absolute(format!("ringfence-test-refused-{}", std::process::id()));
    let plan = Plan::new(hierarchies::auto(), &place, &asked);
    let dirs = plan.dirs();
    let error = plan.make().unwrap_err().to_string();
    assert!(error.contains("cp"), "{error}");
    for dir in dirs {
        assert!(!dir.exists(), "{} is left", dir.display());
    }
}
