//! Executables that lie, loops of interpreters, and trees full of hostile links.

use crate::case::{Result, cases, ensure, equal, same};
use crate::place::Place;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

cases!("bad_programs":
    executables_whose_headers_lie,
    executables_that_are_cut_off,
    loops_of_interpreters,
    a_first_program_that_is_broken,
    links_out_of_the_tree,
    links_where_things_are_mounted,
    links_in_a_tree_below_an_overlay,
);

/// Starts each of `variants` (name and bytes, made by `make` from a good executable) and prints
/// what came of it; the same natively.
fn variants(place: &Place<'_>, make: &str) -> Result {
    let script = format!(
        r"
import os, struct, subprocess, errno, sys
good = open('/bin/true', 'rb').read()
def put(at, form, *values, of=good):
    b = bytearray(of); struct.pack_into('<' + form, b, at, *values); return bytes(b)
phoff, phnum = struct.unpack_from('<Q', good, 32)[0], struct.unpack_from('<H', good, 56)[0]
heads = [phoff + 56 * n for n in range(phnum)]
kind = {{}}
for h in heads: kind.setdefault(struct.unpack_from('<I', good, h)[0], []).append(h)
loads, interp = kind[1], kind[3][0]
vs = []
{make}
for name, data in vs:
    if data is not None:
        with open('/tmp/v', 'wb') as f: f.write(data)
        os.chmod('/tmp/v', 0o755)
    try:
        r = subprocess.run(['/tmp/v'], timeout=10, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    except OSError as e: r = errno.errorcode[e.errno]
    except subprocess.TimeoutExpired: r = 'timeout'
    print(name, r, flush=True)
"
    );
    let args = ["python3", "-B", "-c", &script];
    let root = place.debian()?;
    let native = place.native(root, &args, b"")?;
    same(&native, &place.sandboxed(root, &args, b"")?)
}

fn executables_whose_headers_lie(place: &Place<'_>) -> Result {
    variants(
        place,
        r"
vs.append(('good', good))
for at in (0, 1, 3): vs.append((f'magic {at}', put(at, 'B', 0x20)))
for v in (0, 1, 3, 255): vs.append((f'class {v}', put(4, 'B', v)))
for v in (0, 2): vs.append((f'data {v}', put(5, 'B', v)))
for v in (0, 1, 4, 0xffff): vs.append((f'type {v}', put(16, 'H', v)))
for v in (0, 3, 183, 0xffff): vs.append((f'machine {v}', put(18, 'H', v)))
for v in (0, 0x1000000, 2**47 - 1, 2**63, 2**64 - 1): vs.append((f'entry {v:x}', put(24, 'Q', v)))
for v in (0, 1, len(good) - 10, len(good), 2**31, 2**63 - 1, 2**64 - 1): vs.append((f'phoff {v - len(good) if v < 2**20 and v > 1 else v:x}', put(32, 'Q', v)))
for v in (0, 1, 55, 57, 0xffff): vs.append((f'phentsize {v}', put(54, 'H', v)))
for v in (0, 1, 0xffff): vs.append((f'phnum {v}', put(56, 'H', v)))
for n, h in enumerate(loads):
    for v in (2**63, 2**47, 2**64 - 4096, 0x123): vs.append((f'load {n} vaddr {v:x}', put(h + 16, 'Q', v)))
    for v in (1, 0x123, 2**40, 2**63): vs.append((f'load {n} offset {v:x}', put(h + 8, 'Q', v)))
    for v in (2**32, 2**47, 2**63, 2**64 - 1): vs.append((f'load {n} filesz {v:x}', put(h + 32, 'Q', v)))
    for v in (0, 2**47, 2**63, 2**64 - 1): vs.append((f'load {n} memsz {v:x}', put(h + 40, 'Q', v)))
    for v in (0, 3, 2**21, 2**63): vs.append((f'load {n} align {v:x}', put(h + 48, 'Q', v)))
    vs.append((f'load {n} no flags', put(h + 4, 'I', 0)))
vs.append(('no loads', bytes(b for b in put(loads[0], 'I', 6, of=put(loads[1], 'I', 6, of=put(loads[2], 'I', 6, of=put(loads[-1], 'I', 6)))))))
",
    )
}

fn executables_that_are_cut_off(place: &Place<'_>) -> Result {
    variants(
        place,
        r"
for n in (0, 1, 3, 4, 16, 52, 63, 64, 65, phoff + 56, phoff + 56 * phnum - 1, phoff + 56 * phnum, 1000, 4095, 4096, 4097, 8192, 12288, len(good) // 2):
    vs.append((f'{n} bytes', good[:n]))
vs.append(('head alone', good[:64] + bytes(4000)))
vs.append(('text', b'neither'))
vs.append(('hash bang', b'#!'))
vs.append(('hash bang and nothing', b'#!  \n'))
vs.append(('hash bang without an end', b'#!/bin/sh'))
vs.append(('hash bang too long', b'#!/' + b'x' * 300 + b'\nexit 3\n'))
vs.append(('hash bang with NUL', b'#!/bin/sh\0x\nexit 3\n'))
vs.append(('hash bang with an argument', b'#! /bin/sh -eu \nexit 3\n'))
",
    )
}

fn loops_of_interpreters(place: &Place<'_>) -> Result {
    variants(
        place,
        r"
off, size = struct.unpack_from('<Q', good, interp + 8)[0], struct.unpack_from('<Q', good, interp + 32)[0]
def interpreter(path, size=size):
    b = bytearray(put(interp + 32, 'Q', size)); b[off:off + len(path)] = path; return bytes(b)
vs.append(('itself', interpreter(b'/tmp/v\0')))
vs.append(('missing', interpreter(b'/nosuch\0')))
vs.append(('a directory', interpreter(b'/tmp\0')))
vs.append(('no executable', interpreter(b'/etc/passwd\0')))
vs.append(('empty', interpreter(b'\0')))
vs.append(('relative', interpreter(b'v\0')))
vs.append(('a script', interpreter(b'/usr/bin/ldd\0')))
vs.append(('a program', interpreter(b'/bin/true\0')))
vs.append(('not ended', interpreter(b'/' * size)))
for n in (0, 1, 4096, 4097, 2**31, 2**63): vs.append((f'size {n:x}', interpreter(b'/tmp/v\0', n)))
def script(name, text):
    with open(name, 'w') as f: f.write(text)
    os.chmod(name, 0o755)
vs.append(('script of itself', b'#!/tmp/v\n'))
script('/tmp/a', '#!/tmp/b\n'); script('/tmp/b', '#!/tmp/a\n'); vs.append(('two of each other', b'#!/tmp/a\n'))
script('/tmp/s0', '#!/bin/true\n')
for n in range(1, 7):
    script(f'/tmp/s{n}', f'#!/tmp/s{n - 1}\n'); vs.append((f'{n + 1} deep', f'#!/tmp/s{n}\n'.encode()))
vs.append(('script of a directory', b'#!/tmp\n'))
vs.append(('script of text', b'#!/etc/passwd\n'))
",
    )
}

/// The container's first program: the launcher is told, or the program dies as on Linux.
fn a_first_program_that_is_broken(place: &Place<'_>) -> Result {
    let root = place.tree()?;
    let good = std::fs::read(root.join("bin/busybox"))?;
    let broken = |name: &str, change: &dyn Fn(&mut Vec<u8>)| -> Result {
        let mut bytes = good.clone();
        change(&mut bytes);
        let path = root.join("broken");
        std::fs::write(&path, bytes)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        let bundle = place.bundle(&["/broken", "true"])?;
        bundle.write()?;
        let outcome = place.run(&bundle.dir, "c");
        let refused = outcome.code() == Some(126) && outcome.err().starts_with("error: ");
        let died = outcome.code().is_some_and(|code| code > 128);
        ensure(refused || died, || {
            format!("{name}: {} {}", outcome.status, outcome.err())
        })?;
        place.nothing_left()
    };
    for length in [1, 63, 64, 100, 4096, good.len() / 2] {
        broken(&format!("{length} bytes"), &|b| b.truncate(length))?;
    }
    broken("entry", &|b| b[24..32].fill(0xff))?;
    broken("phoff", &|b| b[32..40].fill(0xff))?;
    broken("phnum", &|b| b[56..58].fill(0xff))?;
    broken("machine", &|b| b[18] = 3)?;
    broken("code", &|b| {
        let half = b.len() / 8;
        b[4096..half].fill(0xcc);
    })?;
    std::fs::write(root.join("broken"), "#!/broken\n")?;
    let bundle = place.bundle(&["/broken"])?;
    bundle.write()?;
    let outcome = place.run(&bundle.dir, "c");
    crate::case::refused(&outcome, 126, &["/broken", "ELOOP"])
}

/// A directory of the host that nothing may touch.
struct Canary {
    dir: std::path::PathBuf,
    before: String,
}

impl Canary {
    fn new(place: &Place<'_>) -> Result<Self> {
        let dir = place.dir.join("canary");
        std::fs::create_dir_all(dir.join("sub"))?;
        std::fs::write(dir.join("file"), "alive\n")?;
        std::fs::write(dir.join("passwd"), "secret\n")?;
        symlink("/nosuch", dir.join("link"))?;
        let before = listing(&dir)?;
        Ok(Self { dir, before })
    }

    fn is_alive(&self, when: &str) -> Result {
        equal(when, &listing(&self.dir)?, &self.before)
    }
}

fn listing(dir: &Path) -> Result<String> {
    let mut command = std::process::Command::new("sh");
    command
        .arg("-c")
        .arg("cd \"$1\" && find . -exec stat -c '%n %F %s %a %u %Y %Z' {} + | sort && cat file passwd")
        .arg("sh")
        .arg(dir);
    let outcome = test_support::run::run_plain(&mut command);
    crate::case::exited(&outcome, 0)?;
    Ok(outcome.out())
}

/// Every way out that a link could be, at the places where something is looked for.
fn hostile(place: &Place<'_>, canary: &Canary) -> Result<Vec<String>> {
    let root = place.tree()?;
    let target = canary.dir.to_string_lossy().into_owned();
    let up = "../".repeat(40);
    let targets = [
        target.clone(),
        format!("{up}{target}"),
        format!("{}/../canary", target),
        "/proc/self/root".to_owned() + &target,
        "/proc/1/cwd/../../../../../../..".to_owned() + &target,
        "/dev/fd/3".to_owned(),
        "loop".to_owned(),
        "..".to_owned(),
    ];
    let mut names = vec![];
    for (n, target) in targets.iter().enumerate() {
        symlink(target, root.join(format!("out{n}")))?;
        names.push(format!("/out{n}"));
    }
    symlink("loop2", root.join("loop"))?;
    symlink("loop", root.join("loop2"))?;
    Ok(names)
}

fn links_out_of_the_tree(place: &Place<'_>) -> Result {
    let canary = Canary::new(place)?;
    let names = hostile(place, &canary)?;
    let script = r#"
for o in "$@"; do
    cat $o/file $o/passwd; echo broken > $o/file; rm -rf $o/sub $o/link; mkdir $o/new; touch $o/touched
    chmod 777 $o; chown 1:1 $o/file; ln $o/file /hard; mv $o/passwd /moved; ln -s x $o/s; truncate -s 0 $o/file; mkfifo $o/p
    cd $o && { ls ..; cat file; rm -f file; cd /; }
    for p in /proc/self/root /proc/1/root /proc/self/cwd /proc/$$/root/..; do cat $p$o/file; rm -f $p$o/file; done
done >/dev/null 2>&1
cat /out0/passwd 2>/dev/null; echo end
"#;
    let args = [
        &["/bin/sh", "-c", script, "sh"],
        names
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .as_slice(),
    ]
    .concat();
    let mut bundle = place.bundle(&args)?;
    bundle.write()?;
    crate::case::said(&place.run(&bundle.dir, "c"), 0, "end\n")?;
    canary.is_alive("after the container's own tries")?;
    // The program, its directory, and what is bound lie behind such a link.
    for name in &names {
        bundle.config["process"]["args"] = ["/bin/true"].as_slice().into();
        bundle.config["process"]["cwd"] = format!("{name}/deep/er").into();
        bundle.write()?;
        let outcome = place.run(&bundle.dir, "c");
        ensure(matches!(outcome.code(), Some(0 | 126..=128)), || {
            outcome.status.clone()
        })?;
        canary.is_alive(&format!("after cwd {name}"))?;
        bundle.config["process"]["cwd"] = "/".into();
        bundle.config["process"]["args"] = [format!("{name}/file")].as_slice().into();
        bundle.write()?;
        let outcome = place.run(&bundle.dir, "c");
        ensure(matches!(outcome.code(), Some(126 | 127)), || {
            outcome.status.clone()
        })?;
    }
    place.nothing_left()
}

fn links_where_things_are_mounted(place: &Place<'_>) -> Result {
    let canary = Canary::new(place)?;
    let names = hostile(place, &canary)?;
    let root = place.tree()?;
    let source = place.dir.join("source");
    std::fs::create_dir(&source)?;
    let file = source.join("one");
    std::fs::write(&file, "one\n")?;
    for name in &names {
        // Where the sandbox itself mounts.
        for place_name in ["proc", "dev", "tmp", "etc"] {
            let path = root.join(place_name);
            let aside = root.join(format!("{place_name}.aside"));
            std::fs::rename(&path, &aside)?;
            symlink(name, &path)?;
            let bundle = place.bundle(&[
                "/bin/sh",
                "-c",
                "echo x > /tmp/x; echo x > /dev/x; echo x > /etc/file; ls /proc/self",
            ])?;
            bundle.write()?;
            let outcome = place.run(&bundle.dir, "c");
            ensure(outcome.code().is_some_and(|code| code <= 128), || {
                outcome.status.clone()
            })?;
            canary.is_alive(&format!("after /{place_name} -> {name}"))?;
            std::fs::remove_file(&path)?;
            std::fs::rename(&aside, &path)?;
        }
        // Where config.json mounts, with parts that are made.
        let mut bundle = place.bundle(&["/bin/sh", "-c", "true"])?;
        if let Some(mounts) = bundle.config["mounts"].as_array_mut() {
            mounts.push(serde_json::json!({"destination": format!("{name}/made"), "type": "tmpfs", "source": "t"}));
            mounts.push(serde_json::json!({"destination": format!("{name}/file"), "type": "bind", "source": file}));
            mounts.push(serde_json::json!({"destination": format!("{name}/dir/x"), "type": "bind", "source": source, "options": ["rbind"]}));
        }
        bundle.config["linux"]["maskedPaths"] = [format!("{name}/file"), format!("{name}/sub")]
            .as_slice()
            .into();
        bundle.config["linux"]["readonlyPaths"] = [format!("{name}/passwd")].as_slice().into();
        bundle.write()?;
        let outcome = place.run(&bundle.dir, "c");
        ensure(matches!(outcome.code(), Some(0 | 128)), || {
            format!("{name}: {} {}", outcome.status, outcome.err())
        })?;
        canary.is_alive(&format!("after mounts at {name}"))?;
    }
    equal(
        "bound file",
        &std::fs::read_to_string(&file)?,
        &"one\n".to_owned(),
    )?;
    place.nothing_left()
}

fn links_in_a_tree_below_an_overlay(place: &Place<'_>) -> Result {
    let canary = Canary::new(place)?;
    let names = hostile(place, &canary)?;
    let tree = place.tree()?.to_string_lossy().into_owned();
    let script = "for o in \"$@\"; do echo x > $o/file; rm -rf $o/passwd $o/sub; mkdir -p $o/new; done 2>/dev/null; echo end";
    let mut args = vec!["do", "--root", &tree, "--", "/bin/sh", "-c", script, "sh"];
    args.extend(names.iter().map(String::as_str));
    crate::case::said(&place.ringfence(&args), 0, "end\n")?;
    canary.is_alive("after do")?;
    for overlay in ["self", "memory"] {
        let mut bundle = place.bundle(
            &[
                &["/bin/sh", "-c", script, "sh"],
                names
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .as_slice(),
            ]
            .concat(),
        )?;
        bundle.config["root"]["readonly"] = (overlay == "self").into();
        bundle.write()?;
        let dir = bundle.dir.to_string_lossy().into_owned();
        let outcome = place.ringfence(&["--overlay", overlay, "run", "-b", &dir, "c"]);
        crate::case::said(&outcome, 0, "end\n")?;
        canary.is_alive(overlay)?;
    }
    Ok(())
}
