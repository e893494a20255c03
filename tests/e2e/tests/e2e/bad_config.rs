//! Hostile and broken config.json.

use crate::case::{Result, cases, ensure, exited, refused, said};
use crate::place::Place;
use serde_json::{Value, json};

cases!("bad_config":
    bad_json_has_line_and_column,
    versions_we_do_not_speak,
    fields_that_make_no_sense,
    numbers_out_of_range,
    nested_too_deeply,
    too_large,
    text_that_is_not_plain,
    mounts_over_mounts,
    mounts_that_cannot_be,
    no_place_for_devices,
    any_field_replaced,
    any_byte_changed,
);

/// Writes `text` as config.json of a bundle that is otherwise good.
fn raw(place: &Place<'_>, text: &[u8]) -> Result<std::path::PathBuf> {
    let dir = place.shell("echo ran", |_| {})?;
    std::fs::write(dir.join("config.json"), text)?;
    Ok(dir)
}

fn bad_json_has_line_and_column(place: &Place<'_>) -> Result {
    for (text, words) in [
        ("", &["line 1 column 0"] as &[&str]),
        (
            "{\n  \"ociVersion\": \"1.0.2\",\n  oops\n}",
            &["line 3 column 3"],
        ),
        ("{\"ociVersion\": \"1.0.2\"", &["line 1 column 22"]),
        ("[]", &["ociVersion"]),
        ("null", &["line 1"]),
        ("{\"ociVersion\": 1}", &["line 1 column 16"]),
        ("{}", &["ociVersion"]),
        ("\u{feff}{}", &["line 1 column 1"]),
        (
            "{\"ociVersion\":\"1.0.2\",\"process\":{\n\"args\":\"sh\"}}",
            &["line 2 column 11"],
        ),
    ] {
        let dir = raw(place, text.as_bytes())?;
        let words = [&["config.json"], words].concat();
        refused(&place.run(&dir, "c"), 128, &words)?;
    }
    refused(
        &place.run(&raw(place, b"{\"ociVersion\": \"\xff\xfe\"}")?, "c"),
        128,
        &["line 1"],
    )?;
    refused(&place.run(&raw(place, &[0; 100])?, "c"), 128, &["line 1"])?;
    place.nothing_left()
}

fn versions_we_do_not_speak(place: &Place<'_>) -> Result {
    for version in ["2.0.0", "0.9", "", "one", "-1", "10.0.0"] {
        let dir = place.shell("true", |c| c["ociVersion"] = version.into())?;
        refused(&place.run(&dir, "c"), 128, &["ociVersion", version, "1.x"])?;
    }
    for version in ["1.0.0", "1.0.2-dev", "1.2.1", "1.99.0"] {
        let dir = place.shell("true", |c| c["ociVersion"] = version.into())?;
        said(&place.run(&dir, "c"), 0, "")?;
    }
    place.nothing_left()
}

fn fields_that_make_no_sense(place: &Place<'_>) -> Result {
    let set = |path: &'static str, value: Value| {
        move |c: &mut Value| {
            if let Some(field) = c.pointer_mut(path) {
                *field = value;
            }
        }
    };
    for (path, value, words) in [
        ("/process/args", json!([]), "process.args"),
        ("/process/args", Value::Null, "process.args"),
        ("/process/args", json!(["a\0b"]), "NUL"),
        ("/process/env", json!(["A=b\0c"]), "NUL"),
        ("/process/cwd", json!("tmp"), "process.cwd"),
        ("/process/cwd", json!("/a\0b"), "process.cwd"),
        ("/process/user", json!({"uid": -1, "gid": 0}), "config.json"),
        (
            "/process/user",
            json!({"uid": 4294967296u64, "gid": 0}),
            "config.json",
        ),
        (
            "/process/rlimits/0",
            json!({"type": "RLIMIT_NONE", "soft": 1, "hard": 1}),
            "RLIMIT_NONE",
        ),
        (
            "/process/rlimits/0",
            json!({"type": "RLIMIT_CPU", "soft": 2, "hard": 1}),
            "rlimits",
        ),
        (
            "/process/capabilities/bounding",
            json!(["CAP_NOSUCH"]),
            "CAP_NOSUCH",
        ),
        ("/process", Value::Null, "process"),
        ("/root", Value::Null, "root"),
        ("/root/path", json!("a\0b"), "root"),
        ("/hostname", json!("h".repeat(65)), "hostname"),
        ("/mounts/0/type", json!("ext9"), "ext9"),
        ("/mounts/0/destination", json!("/a\0b"), "mounts"),
        (
            "/mounts/0",
            json!({"destination": "/x", "type": "bind"}),
            "source",
        ),
        (
            "/mounts/0",
            json!({"destination": "/x", "type": "bind", "source": "/no/such"}),
            "/no/such",
        ),
        (
            "/mounts/3",
            json!({"destination": "/tmp", "type": "tmpfs", "options": ["size=lots"]}),
            "/tmp",
        ),
    ] {
        let dir = place.shell("true", set(path, value))?;
        refused(&place.run(&dir, "c"), 128, &[words])
            .map_err(|stop| crate::case::Stop::Failed(format!("{path}: {stop:?}")))?;
    }
    place.nothing_left()
}

fn numbers_out_of_range(place: &Place<'_>) -> Result {
    for number in [
        "1e400",
        "-1e400",
        "123456789012345678901234567890",
        "-9223372036854775809",
        "0x10",
        "01",
    ] {
        for field in ["uid", "gid", "umask"] {
            let text = format!(
                r#"{{"ociVersion":"1.0.2","root":{{"path":"{}"}},"process":{{"cwd":"/","args":["true"],
                "user":{{"uid":0,"gid":0,"{field}":{number}}}}}}}"#,
                place.tree()?.display()
            );
            let dir = raw(place, text.as_bytes())?;
            refused(&place.run(&dir, "c"), 128, &["config.json", "line 2"])?;
        }
    }
    // These are in range, and each means something or nothing.
    for (soft, hard) in [(0u64, 0), (u64::MAX, u64::MAX), (0, u64::MAX)] {
        let dir = place.shell("true; echo ran", |c| {
            c["process"]["rlimits"] = json!(
                ["CPU", "FSIZE", "DATA", "CORE", "RSS", "MEMLOCK", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"]
                    .map(|name| json!({"type": format!("RLIMIT_{name}"), "soft": if name == "CPU" { hard } else { soft }, "hard": hard}))
            );
            c["process"]["oomScoreAdj"] = 1000.into();
            c["process"]["user"] = json!({"uid": 4294967294u32, "gid": 4294967294u32, "umask": 511});
            c["process"]["consoleSize"] = json!({"height": u64::MAX, "width": u64::MAX});
            c["linux"]["resources"] = json!({
                "memory": {"limit": i64::MAX, "swap": -1}, "pids": {"limit": i64::MIN},
                "cpu": {"quota": i64::MIN, "period": u64::MAX, "shares": u64::MAX, "cpus": "0-4294967295,9-1,x"},
            });
        })?;
        let outcome = place.run(&dir, "c");
        ensure(
            outcome.code().is_some_and(|code| code == 0 || code >= 126),
            || format!("{soft} {hard}: {} {}", outcome.status, outcome.err()),
        )?;
    }
    place.nothing_left()
}

fn nested_too_deeply(place: &Place<'_>) -> Result {
    for open in ["[", "{\"a\":"] {
        let text = format!("{{\"ociVersion\":\"1.0.2\",\"x\":{}", open.repeat(100_000));
        refused(
            &place.run(&raw(place, text.as_bytes())?, "c"),
            128,
            &["line 1 column"],
        )?;
    }
    place.nothing_left()
}

fn too_large(place: &Place<'_>) -> Result {
    let dir = place.shell("true", |c| {
        c["annotations"] = json!({"a": "x".repeat(9 << 20)});
    })?;
    refused(&place.run(&dir, "c"), 128, &["config.json", "8388608"])?;
    // Large, and still sane: what Linux takes as arguments.
    let many: Vec<String> = (0..4000)
        .map(|n| format!("V{n}={}", "x".repeat(100)))
        .collect();
    let dir = place.shell("env | grep -c ^V", |c| {
        c["process"]["env"] = json!([many, vec!["PATH=/bin".to_owned()]].concat());
    })?;
    said(&place.run(&dir, "c"), 0, "4000\n")?;
    let dir = place.shell("true", |c| {
        c["process"]["args"] = json!(["/bin/true", "x".repeat(3 << 20)]);
    })?;
    refused(&place.run(&dir, "c"), 126, &["cannot execute"])?;
    place.nothing_left()
}

fn text_that_is_not_plain(place: &Place<'_>) -> Result {
    let odd = "\u{202e}e\u{301}\u{1f980}\u{0}x\u{7f}\u{1b}[31m".replace('\0', "");
    let dir = place.shell("echo \"$X\"; echo \"$0 $1\"", |c| {
        c["process"]["env"] = json!([format!("X={odd}"), "=empty", "noequals", "", "PATH=/bin"]);
        if let Some(args) = c["process"]["args"].as_array_mut() {
            args.extend([json!(odd), json!("\u{ffff}")]);
        }
        c["annotations"] = json!({(odd.clone()): odd, "": ""});
    })?;
    said(
        &place.run(&dir, "c"),
        0,
        &format!("{odd}\n{odd} \u{ffff}\n"),
    )?;
    let mut bundle = place.bundle(&[&format!("/{odd}")])?;
    bundle.write()?;
    let outcome = place.run(&bundle.dir, "c");
    refused(&outcome, 127, &["cannot execute"])?;
    ensure(!outcome.err().contains('\u{1b}'), || {
        format!(
            "a control character reaches the terminal: {:?}",
            outcome.err()
        )
    })?;
    bundle.config["hostname"] = odd.into();
    bundle.config["process"]["args"] = json!(["/bin/true"]);
    bundle.write()?;
    let outcome = place.run(&bundle.dir, "c");
    ensure(outcome.code().is_some_and(|c| c == 0 || c == 128), || {
        outcome.err()
    })?;
    place.nothing_left()
}

fn mounts_over_mounts(place: &Place<'_>) -> Result {
    let host = place.dir.join("host");
    std::fs::create_dir(&host)?;
    std::fs::write(host.join("file"), "from the host\n")?;
    let tmpfs = |to: &str| json!({"destination": to, "type": "tmpfs", "source": "tmpfs"});
    let dir = place.shell("ls /tmp; cat /data/file; cat /etc/one; touch /a/b/c/d/x; ls /a/b/c/d; mount | grep -c tmpfs", |c| {
        let mounts = c["mounts"].as_array_mut();
        if let Some(mounts) = mounts {
            mounts.extend((0..50).map(|_| tmpfs("/tmp")));
            mounts.extend([
                tmpfs("/a/b/c/d"),
                tmpfs("relative/x"),
                tmpfs("/x/../y/./z//"),
                tmpfs("/../../../../outside"),
                json!({"destination": "/data", "source": host, "options": ["rbind", "ro"]}),
                json!({"destination": "/etc/one", "source": host.join("file"), "type": "bind"}),
                json!({"destination": "/etc/one", "source": host.join("file"), "type": "none", "options": ["bind"]}),
            ]);
        }
    })?;
    let outcome = place.run(&dir, "c");
    exited(&outcome, 0)?;
    let lines: Vec<String> = outcome.out().lines().map(str::to_owned).collect();
    crate::case::equal(
        "output",
        &lines[..3].to_vec(),
        &vec![
            "from the host".to_owned(),
            "from the host".into(),
            "x".into(),
        ],
    )?;
    ensure(place.tree()?.join("outside").is_dir(), || {
        "where is it?".into()
    })?;
    // Hundreds of host directories: more than a message holds.
    let dir = place.shell("ls /m | wc -l", |c| {
        if let Some(mounts) = c["mounts"].as_array_mut() {
            mounts.extend((0..400).map(
                |n| json!({"destination": format!("/m/{n}"), "source": host, "type": "bind"}),
            ));
        }
    })?;
    let outcome = place.run(&dir, "c");
    if outcome.code() != Some(0) {
        refused(&outcome, 128, &["mounts"])?;
    }
    place.nothing_left()
}

fn mounts_that_cannot_be(place: &Place<'_>) -> Result {
    for (mount, words) in [
        (
            json!({"destination": "/etc/passwd", "type": "tmpfs", "source": "x"}),
            "/etc/passwd",
        ),
        (
            json!({"destination": "/etc/passwd/x", "type": "tmpfs", "source": "x"}),
            "/etc/passwd",
        ),
        (
            json!({"destination": "/x", "type": "bind", "source": "/etc/passwd/x"}),
            "/etc/passwd/x",
        ),
        (
            json!({"destination": "/etc", "type": "bind", "source": "/etc/passwd"}),
            "/etc",
        ),
        (
            json!({"destination": "/tmp", "type": "tmpfs", "source": "x", "options": ["nosuchoption"]}),
            "/tmp",
        ),
    ] {
        let dir = place.shell("true", |c| {
            if let Some(mounts) = c["mounts"].as_array_mut() {
                mounts.push(mount);
            }
        })?;
        refused(&place.run(&dir, "c"), 128, &[words])?;
    }
    place.nothing_left()
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

/// It ran, or was refused with a message; it never hangs or leaves something.
fn survived(place: &Place<'_>, dir: &std::path::Path, what: &str) -> Result {
    let outcome = place.run(dir, "c");
    let fine = match outcome.code() {
        Some(126..=128) => outcome.err().starts_with("error: "),
        Some(code) => code < 126,
        None => false,
    };
    ensure(fine, || {
        format!("{what}: {}\n{}", outcome.status, outcome.err())
    })
}

fn no_place_for_devices(place: &Place<'_>) -> Result {
    let dir = place.shell("echo ran", |c| {
        if let Some(mounts) = c["mounts"].as_array_mut() {
            mounts.retain(|m| m["destination"] != "/dev");
        }
    })?;
    let bundle = dir.to_string_lossy().into_owned();
    let run = |overlay| place.ringfence(&["--overlay", overlay, "run", "-b", &bundle, "c"]);
    refused(
        &run("none"),
        128,
        &["/dev", "not made in a tree of the host", "tmpfs"],
    )?;
    said(&run("memory"), 0, "ran\n")?;
    place.nothing_left()
}

fn any_field_replaced(place: &Place<'_>) -> Result {
    let config = place.bundle(&["/bin/true"])?.config;
    let mut paths = vec![];
    collect(&config, "", &mut paths);
    let values = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1.5),
        json!(""),
        json!("/"),
        json!("\u{202e}\u{0}"),
        json!("../../../../.."),
        json!("x".repeat(70_000)),
        json!([]),
        json!({}),
        json!([[]]),
        json!([null]),
    ];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..50 {
        let path = &paths[dice.roll(paths.len())];
        let value = &values[dice.roll(values.len())];
        let mut bundle = place.bundle(&["/bin/true"])?;
        if let Some(field) = bundle.config.pointer_mut(path) {
            *field = value.clone();
        }
        bundle.write()?;
        let text = value.to_string();
        survived(
            place,
            &bundle.dir,
            &format!("{path} = {}", &text[..text.len().min(80)]),
        )?;
    }
    place.nothing_left()
}

fn collect(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(k, v)| collect(v, &format!("{at}/{k}"), into)),
        Value::Array(list) => {
            (0..)
                .zip(list)
                .take(3)
                .for_each(|(n, v): (usize, _)| collect(v, &format!("{at}/{n}"), into));
        }
        _ => {}
    }
}

fn any_byte_changed(place: &Place<'_>) -> Result {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for _ in 0..40 {
        let dir = place.shell("true", |_| {})?;
        let file = dir.join("config.json");
        let mut bytes = std::fs::read(&file)?;
        let at = dice.roll(bytes.len());
        match dice.roll(4) {
            0 => bytes[at] = dice.roll(256) as u8,
            1 => bytes.truncate(at),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, b"{}[]\",:0"[dice.roll(8)]),
        }
        std::fs::write(&file, &bytes)?;
        survived(place, &dir, &format!("a change at byte {at}"))?;
    }
    place.nothing_left()
}
