//! Propagation of mounts as config.json asks for it, beside runc's.
//!
//! Both run where all mounts of the host are private: what a container could receive from the
//! host's is nothing that a sandbox has.

use crate::case::{Result, Stop, cases, equal, exited, refused, said};
use crate::place::{Place, need};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use test_support::bundle::Bundle;
use test_support::run::{self, Outcome};

cases!("propagation":
    what_options_of_mounts_say,
    what_the_root_says,
    what_is_mounted_on_a_shared_root,
);

/// In the container: how the mounts on /mnt and /srv take part; who hears of what is mounted in
/// another mount namespace, and of what is mounted outside of it; whether they can be bound.
const LOOK: &str = r#"
    exec 2>&1
    cat >/tmp/show <<'.'
echo "== $1"
sed 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) [^ ]* /\1 /; s/ - .*//; s/:[0-9]*//g' \
    /proc/self/mountinfo | grep -E '^/(mnt|srv)' | sort
.
    sh /tmp/show first
    all="/mnt /mnt/sub /srv /srv/y"
    for at in $all; do mkdir -p $at/in $at/out; done
    mkdir /tmp/bound; mkfifo /tmp/there /tmp/go; export all
    unshare -m --propagation unchanged sh -c '
        for at in $all; do mount -t tmpfs inner $at/in; done
        echo >/tmp/there; read line </tmp/go; sh /tmp/show inner' &
    read line </tmp/there
    for at in $all; do mount -t tmpfs outer $at/out; done
    echo >/tmp/go; wait
    sh /tmp/show outer
    for at in $all; do mount --bind $at /tmp/bound && umount /tmp/bound; done"#;

/// On the host: a file system with another below it.
const MADE: &str = r#"
    mount -t tmpfs none . && cd "$PWD" && mkdir sub && mount -t tmpfs none sub
    mkdir sub/in sub/out
    cd / && exec "$@""#;

/// Which of several did not pass.
fn of(stop: Stop, which: &str) -> Stop {
    match stop {
        Stop::Failed(why) => Stop::Failed(format!("{which}: {why}")),
        skipped @ Stop::Skipped(_) => skipped,
    }
}

/// Runs `command` beside mounts that are its own.
fn run(source: &Path, command: &Command) -> Outcome {
    let mut wrapped = Command::new("unshare");
    wrapped
        .args(["-m", "--propagation", "private", "sh", "-ec", MADE, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(source);
    run::run(&mut wrapped, b"", crate::place::PATIENCE)
}

fn rbind(options: &[&str]) -> Vec<String> {
    let all = [&["rbind"], options].concat();
    all.into_iter().map(str::to_owned).collect()
}

/// The same container by runc and in the sandbox: with the root's word, and the options of the bind
/// mount on /mnt and of the file system on /srv, which has another on /srv/y.
fn compare(place: &Place<'_>, word: &str, bound: &[&str], options: &[&str]) -> Result {
    let source = place.dir.join("source");
    std::fs::create_dir_all(&source)?;
    let args = ["/bin/sh", "-c", LOOK];
    let mut bundle = Bundle::new(&place.dir.join("bundle"), place.debian()?, &args);
    bundle.config["linux"]["rootfsPropagation"] = word.into();
    if let Some(mounts) = bundle.config["mounts"].as_array_mut() {
        let tmpfs = |at: &str, options: &[&str]| json!({"destination": at, "type": "tmpfs", "source": "x", "options": options});
        mounts.extend([
            json!({"destination": "/mnt", "type": "bind", "source": source, "options": rbind(bound)}),
            tmpfs("/srv", options),
            tmpfs("/srv/y", &[]),
        ]);
    }
    bundle.write()?;
    let mut runc = Command::new("runc");
    runc.arg("--root")
        .arg(place.dir.join("runc"))
        .args(["run", "--bundle"])
        .arg(&bundle.dir)
        .arg(format!("ringfence-e2e-{}", std::process::id()));
    let linux = run(&source, &runc);
    exited(&linux, 0)?;
    said(
        &run(&source, &place.runtime.run(&bundle.dir, "c")),
        0,
        &linux.out(),
    )
}

fn what_options_of_mounts_say(place: &Place<'_>) -> Result {
    need("runc")?;
    let cases: [(&str, &[&str], &[&str]); 10] = [
        ("", &[], &[]),
        ("", &["shared"], &["rshared"]),
        ("", &["rshared"], &["shared", "size=1m"]),
        ("", &["slave"], &["rslave"]),
        ("", &["rprivate"], &["private"]),
        ("", &["unbindable"], &["runbindable"]),
        ("", &["runbindable"], &["unbindable"]),
        ("", &["rshared", "slave"], &["slave", "shared"]),
        ("rslave", &["rshared"], &["shared"]),
        ("rprivate", &["rshared", "private"], &["shared"]),
    ];
    for (word, bound, options) in cases {
        compare(place, word, bound, options)
            .map_err(|stop| of(stop, &format!("{word} {bound:?} {options:?}")))?;
    }
    place.nothing_left()
}

/// runc leaves the root private whatever is said, crun does as the specification.
fn what_the_root_says(place: &Place<'_>) -> Result {
    let script =
        "sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \\(. \\|.proc \\)[^ ]* \\(.*\\)- .*/\\1\\2/p' \
                  /proc/self/mountinfo | sed 's/:[0-9]*//; s/ *$//'
        mkdir -p /all /over /from; touch /from/file
        mount -o rbind / /all 2>&1; mount -o bind /from /over; cd /all/over && ls";
    let bound = "mount: mounting / on /all failed: Invalid argument\n";
    for (word, output) in [
        (Value::Null, "/\n/proc\n".to_owned()),
        ("private".into(), "/\n/proc\n".into()),
        ("rslave".into(), "/\n/proc\n".into()),
        ("shared".into(), "/ shared\n/proc\nfile\n".into()),
        ("rshared".into(), "/ shared\n/proc shared\nfile\n".into()),
        ("unbindable".into(), format!("/ unbindable\n/proc\n{bound}")),
        (
            "runbindable".into(),
            format!("/ unbindable\n/proc unbindable\n{bound}"),
        ),
    ] {
        let script = match output.contains(bound) {
            true => script.replace("cd /all/over && ls", "true"),
            false => script.to_owned(),
        };
        let dir = place.shell(&script, |c| c["linux"]["rootfsPropagation"] = word.clone())?;
        said(&place.run(&dir, "c"), 0, &output).map_err(|stop| of(stop, &word.to_string()))?;
    }
    let dir = place.shell("echo must not run", |c| {
        c["linux"]["rootfsPropagation"] = "both".into();
    })?;
    let words = ["linux.rootfsPropagation", "both", "unbindable"];
    refused(&place.run(&dir, "c"), 128, &words)?;
    place.nothing_left()
}

fn what_is_mounted_on_a_shared_root(place: &Place<'_>) -> Result {
    let source = place.dir.join("source");
    std::fs::create_dir_all(&source)?;
    let script = "sed 's/^[^ ]* [^ ]* [^ ]* [^ ]* \\([^ ]*\\) [^ ]* /\\1 /; s/ - .*//; s/:[0-9]*//' \
                  /proc/self/mountinfo | grep '^/[abcem]' | sort";
    let dir = place.shell(script, |c| {
        c["linux"]["rootfsPropagation"] = "rshared".into();
        c["linux"]["maskedPaths"] = json!(["/etc"]);
        c["linux"]["readonlyPaths"] = json!(["/bin"]);
        if let Some(mounts) = c["mounts"].as_array_mut() {
            let bind = |at: &str, options: &[&str]| json!({"destination": at, "type": "bind", "source": source, "options": rbind(options)});
            mounts.extend([
                bind("/a", &[]),
                bind("/b", &["private"]),
                bind("/c", &["rslave"]),
                bind("/m", &["runbindable"]),
            ]);
        }
    })?;
    let outcome = run(&source, &place.runtime.run(&dir, "c"));
    exited(&outcome, 0)?;
    let expected = "/a shared\n/a/sub shared\n/b\n/b/sub shared\n/bin shared\n/c\n/c/sub\n/etc shared\n\
                    /m unbindable\n/m/sub unbindable\n";
    equal("table", &outcome.out(), &expected.to_owned())?;
    place.nothing_left()
}
