//! The decoder of control frames and the loading of `config.json`. Whatever comes, the answer is a
//! message or an error.

use control::boot::{BootArgs, BootReply};
use control::gofer::GoferArgs;
use control::hello::Hello;
use control::message::{Reply, Request};
use control::{Channel, fs};
use fuzz_tests::{campaign, corpus, mutate, mutate_json};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, sendmsg, shutdown,
    socketpair,
};
use serde_json::Value;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, RawFd};

/// Sends `input` and then the end of the stream, and reads it as messages of a kind. An input is
/// the kind, the number of descriptors that go with its first byte, and the stream.
fn read_frames(input: &[u8]) -> bool {
    let [kind, descriptors, stream @ ..] = input else {
        return false;
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, flags);
    let (theirs, ours) = pair.expect("a socket pair");
    let null = std::fs::File::open("/dev/null").expect("/dev/null");
    let numbers: Vec<RawFd> = vec![null.as_raw_fd(); usize::from(*descriptors % 8)];
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights: &[ControlMessage<'_>] = if numbers.is_empty() { &[] } else { &rights };
    let data = [IoSlice::new(stream)];
    let _whole = sendmsg::<()>(theirs.as_raw_fd(), &data, rights, MsgFlags::empty(), None);
    shutdown(theirs.as_raw_fd(), Shutdown::Write).expect("shutdown");
    let mut channel = Channel::new(ours);
    let mut whole = 0;
    loop {
        let read = match kind % 8 {
            0 => channel.recv::<Request>().map(drop),
            1 => channel.recv::<Reply>().map(drop),
            2 => channel.recv::<Hello>().map(drop),
            3 => channel.recv::<BootArgs>().map(drop),
            4 => channel.recv::<BootReply>().map(drop),
            5 => channel.recv::<GoferArgs>().map(drop),
            6 => channel.recv::<fs::Call>().map(drop),
            _ => channel.recv::<fs::Reply>().map(drop),
        };
        match read {
            Ok(()) => whole += 1,
            // Said in words, which may quote it.
            Err(e) => {
                assert!(!e.to_string().is_empty());
                return whole > 0;
            }
        }
    }
}

#[test]
fn frames() {
    let mut seeds = corpus("frames");
    // An empty frame of every kind, to grow from.
    seeds.extend((0..8).map(|kind| vec![kind, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    campaign(
        "frames",
        20_000,
        seeds,
        |dice, input, others| {
            mutate(dice, input, others);
            // As a rule, one frame whose head says how long it is: else most would end there.
            if dice.below(4) > 0 && input.len() >= 10 {
                let len = (input.len() - 10) as u32;
                input[2..6].copy_from_slice(&len.to_le_bytes());
                let descriptors = u32::from(input[1] % 8);
                input[6..10].copy_from_slice(&descriptors.to_le_bytes());
            }
        },
        read_frames,
    );
}

#[test]
fn configurations() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("rootfs")).expect("a directory");
    let file = dir.path().join("config.json");
    campaign(
        "configurations",
        3_000,
        corpus("config"),
        |dice, input, others| match serde_json::from_slice::<Value>(input) {
            Ok(mut document) if dice.below(4) > 0 => {
                for _ in 0..=dice.below(3) {
                    mutate_json(dice, &mut document);
                }
                *input = document.to_string().into_bytes();
            }
            _ => mutate(dice, input, others),
        },
        |input| {
            std::fs::write(&file, input).expect("a file");
            match launcher::config::load(dir.path()) {
                Ok(config) => {
                    assert!(config.root.is_absolute());
                    true
                }
                Err(e) => {
                    assert!(!e.to_string().is_empty());
                    false
                }
            }
        },
    );
}
