//! Pseudo-terminals: line discipline, signals from keys, job control.

use crate::out::Out;
use crate::sys::{child, count, on};
use crate::util::{
    close, kind_text, open, pipe, read, show, sleep_ms, status_text, wait_text, write,
};
use crate::{cases, k, say, sys, tell};
use libc::*;

cases!(
    pair_opens,
    default_settings,
    old_settings,
    locked_until_unlocked,
    canonical_lines,
    erase_and_kill,
    word_erase_and_literal,
    end_of_file_key,
    end_of_file_then_raw,
    echo_of_control_keys,
    echo_off,
    output_newlines,
    input_translation,
    raw_mode,
    minimum_and_time,
    long_line,
    interrupt_key,
    quit_and_suspend_keys,
    signals_off,
    window_size,
    window_change_signal,
    session_and_foreground,
    background_read_stops,
    background_write,
    background_read_orphaned,
    hang_up,
    hang_up_of_foreground,
    leader_ends,
    leader_gives_up,
    master_closes,
    slave_closes,
    poll_of_terminal,
    flush_and_pending,
    not_a_terminal,
    dev_tty,
    packet_mode_arguments,
    nonblocking_terminal,
    settings_drain_and_flush,
    stop_output_keys,
);

/// A new pair: master, slave.
fn pair() -> (i32, i32) {
    let m = open(c"/dev/ptmx", O_RDWR | O_NOCTTY, 0).int();
    k!(SYS_ioctl, m, TIOCSPTLCK, &0i32);
    (m, slave_of(m, 0))
}

fn slave_of(m: i32, flags: i32) -> i32 {
    let mut n = 0i32;
    k!(SYS_ioctl, m, TIOCGPTN, &mut n);
    let path = std::ffi::CString::new(format!("/dev/pts/{n}")).unwrap_or_default();
    open(&path, O_RDWR | O_NOCTTY | flags, 0).int()
}

/// The kernel's `struct termios`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Termios {
    i: u32,
    o: u32,
    c: u32,
    l: u32,
    line: u8,
    cc: [u8; 19],
}

fn get(fd: i32) -> Termios {
    let mut t: Termios = sys::zeroed();
    k!(SYS_ioctl, fd, TCGETS, &mut t);
    t
}

fn set(fd: i32, f: impl FnOnce(&mut Termios)) -> sys::R {
    let mut t = get(fd);
    f(&mut t);
    k!(SYS_ioctl, fd, TCSETS, &t)
}

/// What there is to read now.
fn got(fd: i32) -> String {
    let mut p = pollfd {
        fd,
        events: POLLIN,
        revents: 0,
    };
    if k!(SYS_poll, &mut p, 1, 150).0 != 1 {
        return "nothing".into();
    }
    read(fd, 500).1
}

fn pair_opens(o: Out) {
    let (m, s) = pair();
    let mut b = [0u8; 32];
    let p = std::ffi::CString::new(format!("/proc/self/fd/{s}")).unwrap_or_default();
    let n = k!(SYS_readlinkat, AT_FDCWD, p.as_c_str(), &mut b, 32);
    let st = crate::util::fstat(s);
    tell!(o, "master" => m >= 0, "slave" => s >= 0, "link" => b[..n.addr().min(32)].starts_with(b"/dev/pts/"), "kind" => kind_text(st.st_mode), "major" => st.st_rdev >> 8, "mode" => format!("{:o}", st.st_mode & 0o777), "uid" => st.st_uid, "master's major" => crate::util::fstat(m).st_rdev);
}

fn default_settings(o: Out) {
    let (m, s) = pair();
    for fd in [m, s] {
        let t = get(fd);
        say!(
            o,
            "i {:o} o {:o} c {:o} l {:o} line {} cc {:?}",
            t.i,
            t.o,
            t.c,
            t.l,
            t.line,
            t.cc
        );
    }
    let mut w = [9u16; 4];
    tell!(o, "size" => k!(SYS_ioctl, s, TIOCGWINSZ, &mut w), "is" => format!("{w:?}"));
}

/// The settings of System V: the lower half of each mode.
fn old_settings(o: Out) {
    const TCGETA: i32 = 0x5405;
    const TCSETA: i32 = 0x5406;
    let (m, s) = pair();
    let mut t = [0xeeu8; 20];
    tell!(o, "get" => k!(SYS_ioctl, s, TCGETA, &mut t), "settings" => show(&t[..17]), "behind" => show(&t[18..]), "master" => k!(SYS_ioctl, m, TCGETA, &mut t), "settings" => show(&t[..17]));
    // No echo, and another key for the end.
    t[6] &= !(ECHO as u8);
    t[9 + VEOF] = b'e';
    for op in TCSETA..TCSETA + 3 {
        tell!(o, "set" => k!(SYS_ioctl, s, op, &t));
    }
    let mut all = [0u8; 60];
    tell!(o, "get" => k!(SYS_ioctl, s, TCGETS, &mut all), "settings" => show(&all[..36]), "nowhere" => k!(SYS_ioctl, s, TCGETA, 8), "nowhere" => k!(SYS_ioctl, s, TCSETA, 8));
}

fn locked_until_unlocked(o: Out) {
    let m = open(c"/dev/ptmx", O_RDWR | O_NOCTTY, 0).int();
    let mut lock = 9i32;
    tell!(o, "get" => k!(SYS_ioctl, m, 0x8004_5439usize, &mut lock), "locked" => lock, "open" => slave_of(m, 0) , "unlock" => k!(SYS_ioctl, m, TIOCSPTLCK, &0i32), "opens" => slave_of(m, 0) >= 0, "by descriptor" => k!(SYS_ioctl, m, 0x5441, O_RDWR | O_NOCTTY).yes());
}

fn canonical_lines(o: Out) {
    let (m, s) = pair();
    write(m, b"one\ntwo\npart");
    tell!(o, "first" => got(s), "short" => read(s, 2).1, "rest" => got(s), "part waits" => got(s), "end it" => write(m, b"ial\n"), "now" => got(s), "echo" => got(m));
}

fn erase_and_kill(o: Out) {
    let (m, s) = pair();
    write(m, b"abc\x7f\x7fxy\n");
    tell!(o, "erased" => got(s), "echo" => got(m));
    write(m, b"gone entirely\x15kept\n");
    tell!(o, "killed" => got(s), "echo" => got(m));
    write(m, b"\x7f\x7fok\n");
    tell!(o, "nothing to erase" => got(s), "echo" => got(m));
}

fn word_erase_and_literal(o: Out) {
    let (m, s) = pair();
    write(m, b"two words\x17x\n");
    tell!(o, "word" => got(s), "echo" => got(m));
    write(m, b"a\x16\x03b\n");
    tell!(o, "literal" => got(s), "echo" => got(m));
    write(m, b"ab\tc\x7f\x7f\x7f\n");
    tell!(o, "tab" => got(s), "echo" => got(m));
    write(m, b"re\x12do\n");
    tell!(o, "reprint" => got(s), "echo" => got(m));
}

fn end_of_file_key(o: Out) {
    let (m, s) = pair();
    write(m, b"abc\x04");
    tell!(o, "part" => got(s));
    write(m, b"\x04");
    tell!(o, "end" => read(s, 9).0, "echo" => got(m));
    write(m, b"more\n");
    tell!(o, "goes on" => got(s));
}

fn echo_of_control_keys(o: Out) {
    let (m, s) = pair();
    write(m, b"a\x01\x1b[A\x00b\n");
    tell!(o, "input" => got(s), "echo" => got(m));
    set(s, |t| t.l &= !ECHOCTL);
    write(m, b"a\x01b\n");
    tell!(o, "input" => got(s), "without ECHOCTL" => got(m));
}

fn echo_off(o: Out) {
    let (m, s) = pair();
    tell!(o, "set" => set(s, |t| t.l &= !ECHO), "write" => write(m, b"secret\n"), "input" => got(s), "echo" => got(m));
    set(s, |t| t.l |= ECHONL);
    write(m, b"secret\n");
    tell!(o, "newline only" => got(m));
}

fn output_newlines(o: Out) {
    let (m, s) = pair();
    write(s, b"a\nb\tc\r");
    tell!(o, "out" => got(m));
    set(s, |t| t.o &= !ONLCR);
    write(s, b"a\nb");
    tell!(o, "plain" => got(m));
    set(s, |t| t.o |= OCRNL);
    write(s, b"x\ry");
    tell!(o, "cr to nl" => got(m), "off" => set(s, |t| t.o &= !OPOST), "raw" => { write(s, b"a\nb\r"); got(m) });
}

fn input_translation(o: Out) {
    let (m, s) = pair();
    write(m, b"cr\r");
    tell!(o, "cr is nl" => got(s), "echo" => got(m));
    set(s, |t| {
        t.i &= !ICRNL;
        t.i |= INLCR;
    });
    write(m, b"x\r");
    tell!(o, "cr stays" => got(s));
    set(s, |t| {
        t.i &= !INLCR;
        t.i |= IGNCR | ISTRIP;
    });
    write(m, b"a\rb\xc1\n");
    tell!(o, "ignored and stripped" => got(s));
}

fn raw(s: i32) -> sys::R {
    set(s, |t| {
        t.i &= !(ICRNL | IXON | BRKINT | INPCK | ISTRIP);
        t.o &= !OPOST;
        t.l &= !(ICANON | ECHO | ISIG | IEXTEN);
    })
}

fn raw_mode(o: Out) {
    let (m, s) = pair();
    raw(s);
    write(m, b"\x03\x04\r\n\x7fab");
    tell!(o, "as it is" => got(s), "no echo" => got(m), "out" => { write(s, b"x\n"); got(m) });
}

/// What was typed in lines and is read as bytes, and the other way round.
fn end_of_file_then_raw(o: Out) {
    let waiting = |fd: i32| {
        let mut n = -1i32;
        k!(SYS_ioctl, fd, FIONREAD, &mut n);
        n
    };
    for typed in ["\x04", "ab\x04", "\x04\x04", "abc", "abc\nde", "a\n\x04b"] {
        let (m, s) = pair();
        set(s, |t| t.l &= !ECHO);
        write(m, typed.as_bytes());
        sleep_ms(20);
        tell!(o, "typed" => format!("{typed:?}"), "lines" => waiting(s), "raw" => raw(s), "bytes" => waiting(s), "read" => got(s));
        write(m, typed.as_bytes());
        sleep_ms(20);
        set(s, |t| t.l |= ICANON);
        tell!(o, "of bytes" => waiting(s), "read" => got(s), "more" => got(s));
    }
}

fn minimum_and_time(o: Out) {
    let (m, s) = pair();
    raw(s);
    set(s, |t| {
        t.cc[VMIN] = 0;
        t.cc[VTIME] = 0;
    });
    tell!(o, "poll-like" => read(s, 9).0);
    set(s, |t| {
        t.cc[VMIN] = 0;
        t.cc[VTIME] = 1;
    });
    let t0 = crate::util::now_ms();
    tell!(o, "timed" => read(s, 9).0, "waited" => crate::util::now_ms() - t0 >= 80);
    set(s, |t| {
        t.cc[VMIN] = 3;
        t.cc[VTIME] = 0;
    });
    let kid = child(|| {
        write(m, b"a");
        sleep_ms(40);
        write(m, b"bcd");
        0
    });
    tell!(o, "three at least" => read(s, 3).1, "child" => wait_text(kid), "rest" => got(s));
}

fn long_line(o: Out) {
    let (m, s) = pair();
    set(s, |t| t.l &= !ECHO);
    k!(SYS_fcntl, m, F_SETFL, O_NONBLOCK);
    let n = write(m, &[b'x'; 5000]);
    let end = write(m, b"\n");
    let mut b = vec![0u8; 8192];
    tell!(o, "taken" => n.ok(), "newline" => end.ok(), "line" => k!(SYS_read, s, &mut b[..], 8192), "last" => show(&b[4090..4096]));
}

/// A session leader on a new terminal that runs `f` with the slave, beside
/// `other` with the master here.
fn session(f: impl FnOnce(i32) -> i32, other: impl FnOnce(i32, i32)) -> String {
    let (m, s) = pair();
    let (r, w) = pipe();
    let kid = child(|| {
        close(m);
        k!(SYS_setsid);
        k!(SYS_ioctl, s, TIOCSCTTY, 0);
        write(w, b"r");
        f(s)
    });
    close(s);
    read(r, 1);
    sleep_ms(40);
    other(m, kid);
    wait_text(kid)
}

fn interrupt_key(o: Out) {
    let end = session(
        |_| {
            loop {
                k!(SYS_pause);
            }
        },
        |m, _| {
            write(m, b"abc\x03");
            tell!(o, "echo" => got(m));
        },
    );
    tell!(o, "end" => end);
    let end = session(
        |s| {
            on(SIGINT, 0);
            let n = read(s, 9).0;
            i32::from(n.0 == i64::from(-EINTR)) + 2 * count(SIGINT)
        },
        |m, _| {
            write(m, b"ab\x03");
        },
    );
    tell!(o, "handled during read" => end);
    let end = session(
        |s| {
            on(SIGINT, SA_RESTART);
            i32::from(read(s, 9).1 == "\"next\\n\"") + 2 * count(SIGINT)
        },
        |m, _| {
            write(m, b"lost\x03");
            sleep_ms(40);
            write(m, b"next\n");
        },
    );
    tell!(o, "line is flushed" => end);
}

fn quit_and_suspend_keys(o: Out) {
    tell!(o, "quit" => session(|_| { loop { k!(SYS_pause); } }, |m, _| { write(m, b"\x1c"); tell!(o, "echo" => got(m)); }));
    let end = session(
        |_| {
            // In a group of its own whose parent stands in the session.
            let job = child(|| {
                k!(SYS_setpgid, 0, 0);
                on(SIGUSR1, 0);
                loop {
                    k!(SYS_pause);
                }
            });
            k!(SYS_setpgid, job, job);
            sys::set_handler(SIGTTOU, SIG_IGN, 0);
            let pg = job;
            k!(SYS_ioctl, 0, 0, 0);
            let tty = open(c"/dev/tty", O_RDWR, 0).int();
            k!(SYS_ioctl, tty, TIOCSPGRP, &pg);
            let mut st = 0;
            k!(SYS_wait4, job, &mut st, WUNTRACED, 0);
            let stopped = status_text(st) == "stopped by SIGTSTP";
            k!(SYS_kill, job, SIGKILL);
            wait_text(job);
            i32::from(stopped)
        },
        |m, _| {
            sleep_ms(100);
            write(m, b"\x1a");
            tell!(o, "echo" => got(m));
        },
    );
    tell!(o, "suspend" => end);
}

fn signals_off(o: Out) {
    tell!(o, "end" => session(|s| { set(s, |t| t.l &= !(ISIG | ICANON)); write(s, b"ready"); i32::from(read(s, 1).1 == "\"\\x03\"") }, |m, _| { got(m); write(m, b"\x03"); }));
}

fn window_size(o: Out) {
    let (m, s) = pair();
    let mut w = [0u16; 4];
    tell!(o, "set by master" => k!(SYS_ioctl, m, TIOCSWINSZ, &[24u16, 80, 5, 6]), "get" => k!(SYS_ioctl, s, TIOCGWINSZ, &mut w), "is" => format!("{w:?}"), "set by slave" => k!(SYS_ioctl, s, TIOCSWINSZ, &[1u16, 2, 3, 4]), "get" => k!(SYS_ioctl, m, TIOCGWINSZ, &mut w), "is" => format!("{w:?}"), "null" => k!(SYS_ioctl, s, TIOCGWINSZ, 0));
}

fn window_change_signal(o: Out) {
    let end = session(
        |s| {
            on(SIGWINCH, 0);
            write(s, b"ok");
            k!(SYS_pause);
            let mut w = [0u16; 4];
            k!(SYS_ioctl, s, TIOCGWINSZ, &mut w);
            sleep_ms(50);
            i32::from(w[1]) + count(SIGWINCH)
        },
        |m, _| {
            got(m);
            sleep_ms(20);
            k!(SYS_ioctl, m, TIOCSWINSZ, &[30u16, 100, 0, 0]);
            k!(SYS_ioctl, m, TIOCSWINSZ, &[30u16, 100, 0, 0]);
        },
    );
    tell!(o, "width and one signal" => end);
}

fn session_and_foreground(o: Out) {
    let (m, s) = pair();
    let mut pg = 0i32;
    tell!(o, "not mine" => k!(SYS_ioctl, s, TIOCGPGRP, &mut pg), "not mine" => k!(SYS_ioctl, s, TIOCGSID, &mut pg), "set" => k!(SYS_ioctl, s, TIOCSPGRP, &pg), "by master" => k!(SYS_ioctl, m, TIOCGPGRP, &mut pg));
    let end = session(
        |s| {
            let me = k!(SYS_getpid).0 as i32;
            let (mut a, mut b) = (0i32, 0i32);
            k!(SYS_ioctl, s, TIOCGPGRP, &mut a);
            k!(SYS_ioctl, s, TIOCGSID, &mut b);
            say!(o, "foreground {} session {}", a == me, b == me);
            say!(
                o,
                "strange group {}",
                k!(SYS_ioctl, s, TIOCSPGRP, &999_999i32)
            );
            say!(o, "other session's {}", k!(SYS_ioctl, s, TIOCSPGRP, &1i32));
            say!(o, "negative {}", k!(SYS_ioctl, s, TIOCSPGRP, &-1i32));
            say!(o, "again {}", k!(SYS_ioctl, s, TIOCSCTTY, 0));
            let (_m2, s2) = pair();
            say!(o, "second {}", k!(SYS_ioctl, s2, TIOCSCTTY, 0));
            0
        },
        |_, _| {},
    );
    tell!(o, "end" => end, "not a leader" => k!(SYS_ioctl, s, TIOCSCTTY, 0));
}

/// In a session: runs `f` in a background group and tells how it stopped or
/// ended.
fn background(f: impl FnOnce(i32) -> i32, setup: fn(i32)) -> (String, String) {
    let (r, w) = pipe();
    let end = session(
        |s| {
            setup(s);
            let job = child(|| {
                k!(SYS_setpgid, 0, 0);
                sleep_ms(30);
                f(s)
            });
            k!(SYS_setpgid, job, job);
            let mut st = 0;
            k!(SYS_wait4, job, &mut st, WUNTRACED, 0);
            write(w, status_text(st).as_bytes());
            k!(SYS_kill, job, SIGKILL);
            0
        },
        |m, _| {
            write(m, b"input\n");
            sleep_ms(60);
        },
    );
    (read(r, 60).1, end)
}

fn background_read_stops(o: Out) {
    tell!(o, "stops" => background(|s| { read(s, 5); 0 }, |_| {}).0);
    tell!(o, "ignoring" => background(|s| { sys::set_handler(SIGTTIN, SIG_IGN, 0); (-read(s, 5).0.0) as i32 }, |_| {}).0);
    tell!(o, "blocking" => background(|s| { crate::util::mask(SIG_BLOCK, crate::util::bit(SIGTTIN)); (-read(s, 5).0.0) as i32 }, |_| {}).0);
}

fn background_write(o: Out) {
    tell!(o, "allowed" => background(|s| write(s, b"hi").int(), |_| {}).0);
    let tostop = |s: i32| {
        set(s, |t| t.l |= TOSTOP);
    };
    tell!(o, "with TOSTOP" => background(|s| write(s, b"hi").int(), tostop).0);
    tell!(o, "ignoring" => background(|s| { sys::set_handler(SIGTTOU, SIG_IGN, 0); write(s, b"hi").int() }, tostop).0);
    tell!(o, "settings" => background(|s| { set(s, |t| t.l &= !ECHO); 0 }, |_| {}).0);
    tell!(o, "foreground" => background(|s| { let me = k!(SYS_getpgrp).0 as i32; k!(SYS_ioctl, s, TIOCSPGRP, &me); 0 }, |_| {}).0);
}

fn background_read_orphaned(o: Out) {
    let (r, w) = pipe();
    session(
        |s| {
            let mid = child(|| {
                child(|| {
                    k!(SYS_setpgid, 0, 0);
                    sleep_ms(60);
                    write(w, read(s, 5).0.to_string().as_bytes());
                    0
                });
                sleep_ms(20);
                0
            });
            wait_text(mid);
            // The group's only link to the session was the process that ended.
            sleep_ms(120);
            0
        },
        |_, _| {},
    );
    tell!(o, "read" => read(r, 30).1);
}

fn hang_up(o: Out) {
    let (r, w) = pipe();
    let end = session(
        |s| {
            on(SIGHUP, 0);
            on(SIGCONT, 0);
            write(w, b"r");
            k!(SYS_pause);
            sleep_ms(30);
            let text = format!(
                "hup {} cont {} read {} write {} ioctl {}",
                count(SIGHUP),
                count(SIGCONT),
                read(s, 1).0,
                write(s, b"x"),
                k!(SYS_ioctl, s, TIOCGPGRP, &mut 0i32)
            );
            write(w, text.as_bytes());
            0
        },
        |m, _| {
            read(r, 1);
            sleep_ms(20);
            close(m);
        },
    );
    tell!(o, "seen" => read(r, 200).1, "end" => end);
}

fn hang_up_of_foreground(o: Out) {
    // Whoever is in the foreground hears of a lost terminal when the leader ends, not before.
    let ((r, w), (r2, w2)) = (pipe(), pipe());
    let end = session(
        |s| {
            on(SIGHUP, 0);
            on(SIGCONT, 0);
            let front = child(|| {
                k!(SYS_setpgid, 0, 0);
                write(w, b"r");
                read(r2, 1);
                let before = count(SIGHUP);
                write(w, b"b");
                while count(SIGHUP) == 0 || count(SIGCONT) == 0 {
                    sleep_ms(5);
                }
                let text = format!("before {before} then {}", count(SIGHUP));
                write(w, text.as_bytes());
                0
            });
            read(r, 1);
            k!(
                SYS_rt_sigprocmask,
                SIG_BLOCK,
                &crate::util::bit(SIGTTOU),
                0,
                8
            );
            k!(SYS_ioctl, s, TIOCSPGRP, &front);
            write(w, b"f");
            while count(SIGHUP) == 0 {
                sleep_ms(5);
            }
            write(w2, b"x");
            read(r, 1);
            0
        },
        |m, _| {
            read(r, 1);
            close(m);
        },
    );
    tell!(o, "front" => read(r, 100).1, "end" => end);
}

fn leader_ends(o: Out) {
    // The end of a session's leader tells the foreground group; others keep what they have open.
    let ((r, w), (r2, w2)) = (pipe(), pipe());
    let mut after = String::new();
    let end = session(
        |s| {
            on(SIGHUP, 0);
            set(s, |t| t.l &= !(ECHO | ICANON));
            for wait in ["read", "stay"] {
                child(|| {
                    write(w, b"r");
                    if wait == "read" {
                        let text = format!("waiting {} ", read(s, 5).0);
                        write(w, text.as_bytes());
                        return 0;
                    }
                    while read(r2, 1).0.0 == i64::from(-EINTR) {}
                    k!(SYS_fcntl, s, F_SETFL, O_RDWR | O_NONBLOCK);
                    let mut p = pollfd {
                        fd: s,
                        events: POLLIN | POLLOUT,
                        revents: 0,
                    };
                    k!(SYS_poll, &mut p, 1, 0);
                    let text = format!(
                        "hup {} read {} write {} settings {} poll {:x} dev_tty {} ",
                        count(SIGHUP),
                        read(s, 5).0,
                        write(s, b"x"),
                        k!(SYS_ioctl, s, TCGETS, &mut [0u8; 60]),
                        p.revents,
                        open(c"/dev/tty", O_RDWR, 0),
                    );
                    write(w, text.as_bytes());
                    0
                });
            }
            read(r, 1);
            read(r, 1);
            sleep_ms(40);
            0
        },
        |m, leader| {
            // Left to be waited for by `session`.
            k!(SYS_waitid, P_PID, leader, 0, WEXITED | WNOWAIT, 0);
            let mut p = pollfd {
                fd: m,
                events: POLLIN | POLLOUT,
                revents: 0,
            };
            k!(SYS_poll, &mut p, 1, 0);
            k!(SYS_fcntl, m, F_SETFL, O_RDWR | O_NONBLOCK);
            after = format!("read {} poll {:x}", read(m, 5).0, p.revents);
            let again = slave_of(m, 0);
            let t = get(again);
            after += &format!(
                " opens {} echo {} write {} gets {}",
                again >= 0,
                t.l & ECHO != 0,
                write(again, b"new"),
                got(m)
            );
        },
    );
    let waiting = read(r, 100).1;
    write(w2, b"x");
    tell!(o, "end" => end, "master" => after, "reader" => waiting, "other" => read(r, 100).1);
}

fn leader_gives_up(o: Out) {
    let (r, w) = pipe();
    session(
        |s| {
            on(SIGHUP, 0);
            on(SIGCONT, 0);
            let give = k!(SYS_ioctl, s, TIOCNOTTY);
            let text = format!(
                "{give} hup {} cont {} write {} dev_tty {} again {}",
                count(SIGHUP),
                count(SIGCONT),
                write(s, b"x"),
                open(c"/dev/tty", O_RDWR, 0),
                k!(SYS_ioctl, s, TIOCSCTTY, 0),
            );
            write(w, text.as_bytes());
            0
        },
        |_, _| {},
    );
    tell!(o, "leader" => read(r, 200).1);
}

fn master_closes(o: Out) {
    let (m, s) = pair();
    write(m, b"left\n");
    close(m);
    tell!(o, "read" => read(s, 9).0, "write" => write(s, b"x"), "settings" => k!(SYS_ioctl, s, TCGETS, &mut [0u8; 60]));
    let mut p = pollfd {
        fd: s,
        events: POLLIN | POLLOUT,
        revents: 0,
    };
    tell!(o, "poll" => k!(SYS_poll, &mut p, 1, 0), "revents" => format!("{:#x}", p.revents));
}

fn slave_closes(o: Out) {
    let (m, s) = pair();
    write(s, b"bye");
    close(s);
    tell!(o, "rest" => got(m), "then" => read(m, 9).0);
    let mut p = pollfd {
        fd: m,
        events: POLLIN,
        revents: 0,
    };
    tell!(o, "poll" => k!(SYS_poll, &mut p, 1, 0), "revents" => format!("{:#x}", p.revents));
    let s = slave_of(m, 0);
    tell!(o, "reopened" => s >= 0, "lives" => { write(s, b"again"); got(m) });
}

fn poll_of_terminal(o: Out) {
    let (m, s) = pair();
    let ask = |fd: i32| {
        let mut p = pollfd {
            fd,
            events: POLLIN | POLLOUT | POLLPRI,
            revents: 0,
        };
        k!(SYS_poll, &mut p, 1, 0);
        format!("{:#x}", p.revents)
    };
    tell!(o, "slave" => ask(s), "master" => ask(m));
    write(m, b"part");
    tell!(o, "no line yet" => ask(s), "echo there" => ask(m));
    write(m, b"\n");
    tell!(o, "line" => ask(s));
}

fn flush_and_pending(o: Out) {
    let (m, s) = pair();
    let mut n = -1i32;
    write(m, b"line\n");
    sleep_ms(20);
    tell!(o, "pending" => k!(SYS_ioctl, s, FIONREAD, &mut n), "is" => n, "flush" => k!(SYS_ioctl, s, TCFLSH, TCIFLUSH), "pending" => k!(SYS_ioctl, s, FIONREAD, &mut n), "is" => n, "nothing" => got(s), "drain" => k!(SYS_ioctl, s, TCSBRK, 1), "bad flush" => k!(SYS_ioctl, s, TCFLSH, 9));
}

fn not_a_terminal(o: Out) {
    let (r, _w) = pipe();
    let mut t = [0u8; 64];
    tell!(o, "pipe" => k!(SYS_ioctl, r, TCGETS, &mut t), "null" => k!(SYS_ioctl, open(c"/dev/null", O_RDWR, 0), TCGETS, &mut t), "closed" => k!(SYS_ioctl, 99, TCGETS, &mut t), "size of pipe" => k!(SYS_ioctl, r, TIOCGWINSZ, &mut t), "unknown" => k!(SYS_ioctl, pair().1, 0x9999, 0), "number" => k!(SYS_ioctl, pair().1, TIOCGPTN, &mut t));
}

fn dev_tty(o: Out) {
    tell!(o, "without" => crate::util::in_child(|| { k!(SYS_setsid); (-open(c"/dev/tty", O_RDWR, 0).0) as i32 }));
    tell!(o, "with" => session(|_| { let t = open(c"/dev/tty", O_RDWR, 0).int(); i32::from(write(t, b"via tty").0 == 7) + 2 * i32::from(k!(SYS_ioctl, t, TIOCNOTTY, 0).ok()) }, |m, _| { tell!(o, "out" => got(m)); }));
}

fn packet_mode_arguments(o: Out) {
    let (m, s) = pair();
    tell!(o, "on" => k!(SYS_ioctl, m, TIOCPKT, &1i32), "on slave" => k!(SYS_ioctl, s, TIOCPKT, &1i32), "data" => { write(s, b"hi"); got(m) }, "off" => k!(SYS_ioctl, m, TIOCPKT, &0i32), "data" => { write(s, b"hi"); got(m) });
}

fn nonblocking_terminal(o: Out) {
    let (m, _s) = pair();
    let s = slave_of(m, O_NONBLOCK);
    k!(SYS_fcntl, m, F_SETFL, O_NONBLOCK);
    tell!(o, "slave" => read(s, 9).0, "master" => read(m, 9).0, "part" => { write(m, b"abc"); read(s, 9).0 }, "line" => { write(m, b"\n"); sleep_ms(20); read(s, 9).1 });
}

fn settings_drain_and_flush(o: Out) {
    let (m, s) = pair();
    write(m, b"typed ahead\n");
    sleep_ms(20);
    let t = get(s);
    tell!(o, "drain" => k!(SYS_ioctl, s, TCSETSW, &t), "kept" => got(s));
    write(m, b"typed ahead\n");
    sleep_ms(20);
    tell!(o, "flush" => k!(SYS_ioctl, s, TCSETSF, &t), "gone" => got(s), "null" => k!(SYS_ioctl, s, TCSETS, 0));
    // Switching to raw makes the unfinished line readable.
    write(m, b"half");
    tell!(o, "waits" => got(s), "raw" => raw(s), "there" => got(s));
}

fn stop_output_keys(o: Out) {
    let (m, s) = pair();
    write(m, b"\x13");
    sleep_ms(20);
    k!(SYS_fcntl, s, F_SETFL, O_NONBLOCK);
    tell!(o, "stopped" => write(s, b"held"), "nothing" => got(m), "start" => write(m, b"\x11"), "write" => { sleep_ms(20); write(s, b"now") }, "out" => got(m));
}
