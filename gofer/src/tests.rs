//! A server in a thread over a directory of ours, and a client that means no good.

use crate::{Magic, Server, TreeConfig};
use control::Channel;
use control::fs::*;
use nix::errno::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

struct Client {
    channel: Channel,
    dir: tempfile::TempDir,
}

impl Client {
    fn new(readonly: bool) -> Client {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(dir.path().join("outside"), "secret").unwrap();
        let channel = serve(&tree, readonly, 16);
        Client { channel, dir }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("tree").join(name)
    }

    fn call(&mut self, request: Request) -> (Reply, Vec<OwnedFd>) {
        self.call_forgetting(request, vec![])
    }

    fn call_forgetting(&mut self, request: Request, forget: Vec<u64>) -> (Reply, Vec<OwnedFd>) {
        self.channel.send(&Call { forget, request }, &[]).unwrap();
        self.channel.recv().unwrap()
    }

    fn errno(&mut self, request: Request) -> Errno {
        match self.call(request).0 {
            Reply::Failed(e) => Errno::from_raw(e),
            other => panic!("{other:?}"),
        }
    }

    fn entry(&mut self, request: Request) -> Entry {
        match self.call(request).0 {
            Reply::Entry { entry, .. } => entry,
            other => panic!("{other:?}"),
        }
    }

    fn lookup(&mut self, dir: NodeId, name: &str) -> Entry {
        self.entry(Request::Lookup {
            dir,
            name: name.into(),
            open: false,
        })
    }
}

fn serve(tree: &Path, readonly: bool, descriptors: usize) -> Channel {
    serve_tree(tree, false, readonly, descriptors)
}

fn serve_tree(tree: &Path, below: bool, readonly: bool, descriptors: usize) -> Channel {
    let root: OwnedFd = File::open(tree).unwrap().into();
    let (ours, theirs) = Channel::pair().unwrap();
    let config = TreeConfig {
        root,
        below,
        connection: theirs.into_socket(),
        readonly,
        name: "t".into(),
    };
    std::thread::spawn(move || {
        let server = Server::new(vec![config], Magic::unconfined(), descriptors).unwrap();
        // As a gofer process has it; here it binds this thread alone.
        crate::filter::install(&crate::compile().unwrap()).unwrap();
        server.run();
    });
    ours
}

fn owner(perm: u32) -> Owner {
    let (uid, gid) = (
        nix::unistd::getuid().as_raw(),
        nix::unistd::getgid().as_raw(),
    );
    Owner { perm, uid, gid }
}

fn name(s: &str) -> Vec<u8> {
    s.as_bytes().to_vec()
}

#[test]
fn a_file_is_made_written_listed_renamed_and_removed() {
    let mut c = Client::new(false);
    let request = Request::Create {
        dir: ROOT,
        name: name("a"),
        owner: owner(0o4751),
    };
    let (reply, fds) = c.call(request.clone());
    let Reply::Entry {
        entry,
        dir: Some(_),
        opened: Some(_),
    } = reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!(entry.attr.mode & 0o7777, 0o4751);
    File::from(fds.into_iter().next().unwrap())
        .write_all(b"hello")
        .unwrap();
    assert_eq!(c.errno(request), Errno::EEXIST);

    let list = Request::ReadDir {
        dir: ROOT,
        from: 0,
        nodes: true,
    };
    let Reply::Entries {
        list: found,
        next: None,
    } = c.call(list).0
    else {
        panic!()
    };
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].entry.unwrap().attr.size, 5);
    let d = c.entry(Request::Mkdir {
        dir: ROOT,
        name: name("d"),
        owner: owner(0o755),
    });
    let rename = Request::Rename {
        dir: ROOT,
        name: name("a"),
        moved: Some(entry.node),
        new_dir: d.node,
        new_name: name("b"),
        replaced: None,
        flags: 0,
    };
    assert!(matches!(
        c.call(rename).0,
        Reply::Changed {
            new_dir: Some(_),
            ..
        }
    ));
    // The number follows its file, and outlives its name.
    let open = Request::Open {
        node: entry.node,
        access: Access::Read,
    };
    let unlink = Request::Unlink {
        dir: d.node,
        name: name("b"),
        node: Some(entry.node),
        directory: false,
    };
    assert!(matches!(c.call(unlink).0, Reply::Changed { .. }));
    let (reply, fds) = c.call(open);
    assert!(matches!(reply, Reply::Opened(_)), "{reply:?}");
    let mut text = String::new();
    File::from(fds.into_iter().next().unwrap())
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "hello");
    let Reply::Attr(attr) = c.call(Request::Stat { node: entry.node }).0 else {
        panic!()
    };
    assert_eq!(attr.nlink, 0);
}

#[test]
fn nothing_outside_is_reached() {
    let mut c = Client::new(false);
    symlink("../outside", c.path("up")).unwrap();
    symlink("/etc", c.path("etc")).unwrap();
    symlink("/proc/self/root", c.path("proc")).unwrap();
    for bad in ["..", ".", "", "a/b", "/etc/passwd", "../outside", "a\0"] {
        let lookup = Request::Lookup {
            dir: ROOT,
            name: name(bad),
            open: true,
        };
        assert_eq!(c.errno(lookup), Errno::EINVAL, "{bad:?}");
        let create = Request::Create {
            dir: ROOT,
            name: name(bad),
            owner: owner(0o644),
        };
        assert_eq!(c.errno(create), Errno::EINVAL, "{bad:?}");
        let link = Request::Symlink {
            dir: ROOT,
            name: name(bad),
            target: name("x"),
            owner: owner(0o777),
        };
        assert_eq!(c.errno(link), Errno::EINVAL, "{bad:?}");
    }
    let up = c.lookup(ROOT, "up");
    assert_eq!(up.attr.mode & libc::S_IFMT, libc::S_IFLNK);
    assert_eq!(
        c.errno(Request::Open {
            node: up.node,
            access: Access::Read
        }),
        Errno::ENXIO
    );
    let size = SetAttr {
        size: Some(0),
        ..SetAttr::default()
    };
    assert_eq!(
        c.errno(Request::SetAttr {
            node: up.node,
            set: size
        }),
        Errno::EINVAL
    );
    let mode = SetAttr {
        perm: Some(0o777),
        ..SetAttr::default()
    };
    assert_eq!(
        c.errno(Request::SetAttr {
            node: up.node,
            set: mode
        }),
        Errno::EOPNOTSUPP
    );
    let etc = c.lookup(ROOT, "etc");
    let passwd = Request::Lookup {
        dir: etc.node,
        name: name("passwd"),
        open: true,
    };
    assert_eq!(c.errno(passwd), Errno::ENOTDIR);
    // Times of the link itself, not of what it leads to.
    let set = SetAttr {
        mtime: Some(Time { sec: 5, nsec: 0 }),
        ..SetAttr::default()
    };
    assert!(matches!(
        c.call(Request::SetAttr {
            node: etc.node,
            set
        })
        .0,
        Reply::Attr(_)
    ));
    assert_ne!(std::fs::metadata("/etc").unwrap().mtime(), 5);
    assert_eq!(
        std::fs::read(c.dir.path().join("outside")).unwrap(),
        b"secret"
    );
}

#[test]
fn a_name_that_became_a_symlink_is_stale() {
    let mut c = Client::new(false);
    std::fs::create_dir(c.path("d")).unwrap();
    std::fs::write(c.path("d/f"), "x").unwrap();
    // Numbered without being opened.
    let list = Request::ReadDir {
        dir: ROOT,
        from: 0,
        nodes: true,
    };
    let Reply::Entries { list, .. } = c.call(list).0 else {
        panic!()
    };
    let node = list[0].entry.unwrap().node;
    std::fs::rename(c.path("d"), c.path("old")).unwrap();
    symlink("/etc", c.path("d")).unwrap();
    let passwd = Request::Lookup {
        dir: node,
        name: name("passwd"),
        open: true,
    };
    assert_eq!(c.errno(passwd), Errno::ESTALE);
}

#[test]
fn unknown_numbers_and_flags_are_errors() {
    let mut c = Client::new(false);
    assert_eq!(c.errno(Request::Stat { node: 0 }), Errno::EBADF);
    assert_eq!(c.errno(Request::Stat { node: u64::MAX }), Errno::EBADF);
    let bad = Request::Lookup {
        dir: 77,
        name: name("a"),
        open: false,
    };
    assert_eq!(c.errno(bad), Errno::EBADF);
    std::fs::write(c.path("a"), "").unwrap();
    let a = c.lookup(ROOT, "a");
    let whiteout = Request::Rename {
        dir: ROOT,
        name: name("a"),
        moved: Some(99),
        new_dir: ROOT,
        new_name: name("b"),
        replaced: Some(98),
        flags: 4,
    };
    assert_eq!(c.errno(whiteout), Errno::EINVAL);
    let from = Request::ReadDir {
        dir: ROOT,
        from: u64::MAX,
        nodes: false,
    };
    assert_eq!(c.errno(from), Errno::EINVAL);
    let under_file = Request::Lookup {
        dir: a.node,
        name: name("x"),
        open: false,
    };
    assert_eq!(c.errno(under_file), Errno::ENOTDIR);
    let trusted = Request::SetXattr {
        node: a.node,
        name: name("trusted.x"),
        value: vec![],
        flags: 0,
    };
    assert_eq!(c.errno(trusted), Errno::EOPNOTSUPP);
    // The root is not to be forgotten; what is forgotten is unknown.
    let stat = Request::Stat { node: a.node };
    let (reply, _) = c.call_forgetting(stat, vec![ROOT, a.node, a.node, 4711]);
    assert_eq!(reply, Reply::Failed(Errno::EBADF as i32));
    assert!(matches!(
        c.call(Request::Stat { node: ROOT }).0,
        Reply::Attr(_)
    ));
}

#[test]
fn a_read_only_tree_stays_as_it_is() {
    let mut c = Client::new(true);
    std::fs::write(c.path("a"), "x").unwrap();
    let a = c.lookup(ROOT, "a");
    for request in [
        Request::Open {
            node: a.node,
            access: Access::ReadWrite,
        },
        Request::Open {
            node: a.node,
            access: Access::Append,
        },
        Request::Create {
            dir: ROOT,
            name: name("b"),
            owner: owner(0o644),
        },
        Request::Tmpfile {
            dir: ROOT,
            owner: owner(0o644),
        },
        Request::Unlink {
            dir: ROOT,
            name: name("a"),
            node: None,
            directory: false,
        },
        Request::SetAttr {
            node: a.node,
            set: SetAttr::default(),
        },
        Request::RemoveXattr {
            node: a.node,
            name: name("user.x"),
        },
    ] {
        assert_eq!(c.errno(request), Errno::EROFS);
    }
    let open = Request::Open {
        node: a.node,
        access: Access::Read,
    };
    let (Reply::Opened(_), fds) = c.call(open) else {
        panic!()
    };
    let fd = File::from(fds.into_iter().next().unwrap());
    assert!((&fd).write_all(b"y").is_err());
}

#[test]
fn special_files_are_never_opened_on_the_host() {
    let mut c = Client::new(false);
    for (special, path) in [(Special::Fifo, "fifo"), (Special::Socket, "sock")] {
        let request = Request::Mknod {
            dir: ROOT,
            name: name(path),
            special,
            owner: owner(0o600),
        };
        let entry = c.entry(request);
        let open = Request::Open {
            node: entry.node,
            access: Access::Read,
        };
        assert_eq!(c.errno(open), Errno::ENXIO);
        let lookup = Request::Lookup {
            dir: ROOT,
            name: name(path),
            open: true,
        };
        let (reply, fds) = c.call(lookup);
        assert!(matches!(reply, Reply::Entry { opened: None, .. }));
        assert!(fds.is_empty());
    }
}

#[test]
fn few_descriptors_serve_many_files() {
    let mut c = Client::new(false);
    let mut dir = ROOT;
    for depth in 0..60 {
        let made = c.entry(Request::Mkdir {
            dir,
            name: name(&format!("d{depth}")),
            owner: owner(0o755),
        });
        dir = made.node;
    }
    let files: Vec<Entry> = (0..200)
        .map(|i| {
            let request = Request::Create {
                dir,
                name: name(&format!("f{i}")),
                owner: owner(0o644),
            };
            c.entry(request)
        })
        .collect();
    for file in files {
        let Reply::Attr(attr) = c.call(Request::Stat { node: file.node }).0 else {
            panic!()
        };
        assert_eq!(attr.ino, file.attr.ino);
    }
}

#[test]
fn links_and_attributes_reach_the_host() {
    let mut c = Client::new(false);
    std::fs::write(c.path("a"), "abc").unwrap();
    symlink("nowhere", c.path("s")).unwrap();
    let (a, s) = (c.lookup(ROOT, "a"), c.lookup(ROOT, "s"));
    let b = c.entry(Request::Link {
        dir: ROOT,
        name: name("b"),
        node: a.node,
    });
    assert_eq!((b.attr.ino, b.attr.nlink), (a.attr.ino, 2));
    let t = c.entry(Request::Link {
        dir: ROOT,
        name: name("t"),
        node: s.node,
    });
    assert_eq!(t.attr.ino, s.attr.ino);
    assert_eq!(
        c.call(Request::ReadLink { node: t.node }).0,
        Reply::Bytes(name("nowhere"))
    );
    let set = SetAttr {
        size: Some(1),
        perm: Some(0o600),
        ..SetAttr::default()
    };
    let Reply::Attr(attr) = c.call(Request::SetAttr { node: b.node, set }).0 else {
        panic!()
    };
    assert_eq!((attr.size, attr.mode & 0o7777), (1, 0o600));
    assert_eq!(std::fs::metadata(c.path("a")).unwrap().len(), 1);
    // A file without a name gets one.
    let (Reply::Entry { entry, .. }, fds) = c.call(Request::Tmpfile {
        dir: ROOT,
        owner: owner(0o640),
    }) else {
        panic!()
    };
    assert_eq!((entry.attr.nlink, fds.len()), (0, 1));
    let named = c.entry(Request::Link {
        dir: ROOT,
        name: name("n"),
        node: entry.node,
    });
    assert_eq!((named.attr.nlink, named.attr.mode & 0o7777), (1, 0o640));
}

#[test]
fn a_broken_frame_ends_that_connection_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, b) = (serve(dir.path(), true, 16), serve(dir.path(), true, 16));
    b.send(&String::from("what is this? it is no request"), &[])
        .unwrap();
    let mut b = b;
    assert!(b.recv::<Reply>().is_err());
    a.send(
        &Call {
            forget: vec![],
            request: Request::Stat { node: ROOT },
        },
        &[],
    )
    .unwrap();
    assert!(matches!(a.recv::<Reply>().unwrap().0, Reply::Attr(_)));
}

#[test]
fn the_filter_lets_every_request_through() {
    let mut c = Client::new(false);
    std::fs::write(c.path("a"), "abc").unwrap();
    let a = c.lookup(ROOT, "a").node;
    assert!(matches!(
        c.call(Request::StatFs { node: a }).0,
        Reply::Statfs(_)
    ));
    assert_eq!(c.call(Request::Sync { node: ROOT }).0, Reply::Done);
    let (key, value) = (name("user.key"), name("value"));
    let set = Request::SetXattr {
        node: a,
        name: key.clone(),
        value: value.clone(),
        flags: 0,
    };
    match c.call(set).0 {
        Reply::Done => {
            let get = Request::GetXattr {
                node: a,
                name: key.clone(),
            };
            assert_eq!(c.call(get).0, Reply::Bytes(value));
            let list = c.call(Request::ListXattr { node: a }).0;
            assert_eq!(list, Reply::Names(vec![key.clone()]));
            let remove = Request::RemoveXattr { node: a, name: key };
            assert_eq!(c.call(remove).0, Reply::Done);
        }
        // Not every host file system has them.
        other => assert_eq!(other, Reply::Failed(Errno::EOPNOTSUPP as i32)),
    }
    let owner = owner(0o600);
    let set = SetAttr {
        perm: Some(0o604),
        uid: Some(owner.uid),
        gid: Some(owner.gid),
        size: Some(2),
        atime: Some(Time { sec: 1, nsec: 2 }),
        mtime: Some(Time { sec: 3, nsec: 4 }),
    };
    let Reply::Attr(attr) = c.call(Request::SetAttr { node: a, set }).0 else {
        panic!()
    };
    assert_eq!((attr.mode & 0o7777, attr.size), (0o604, 2));
    assert_eq!((attr.atime.sec, attr.mtime.nsec), (1, 4));
    for access in [Access::Read, Access::ReadWrite, Access::Append] {
        let (reply, fds) = c.call(Request::Open { node: a, access });
        assert!(matches!(reply, Reply::Opened(_)));
        assert_eq!(fds.len(), 1);
    }
    let link = Request::Symlink {
        dir: ROOT,
        name: name("s"),
        target: name("/x"),
        owner,
    };
    let link = c.entry(link).node;
    assert_eq!(
        c.call(Request::ReadLink { node: link }).0,
        Reply::Bytes(name("/x"))
    );
    let rename = Request::Rename {
        dir: ROOT,
        name: name("a"),
        moved: Some(a),
        new_dir: ROOT,
        new_name: name("s"),
        replaced: Some(link),
        flags: 2,
    };
    assert!(matches!(c.call(rename).0, Reply::Changed { .. }));
    let back = Request::ReadLink { node: link };
    assert_eq!(c.call(back).0, Reply::Bytes(name("/x")));
    // Much at once, so that the allocator maps and unmaps.
    for i in 0..700 {
        let long = format!("{i:0200}");
        c.entry(Request::Mkdir {
            dir: ROOT,
            name: name(&long),
            owner,
        });
    }
    let (mut seen, mut from) = (0, Some(0));
    while let Some(at) = from {
        let list = Request::ReadDir {
            dir: ROOT,
            from: at,
            nodes: true,
        };
        let Reply::Entries { list, next } = c.call(list).0 else {
            panic!()
        };
        assert!(list.len() < 1000);
        seen += list.len();
        from = next;
    }
    assert_eq!(seen, 702);
}

#[test]
fn the_hosts_kernel_is_not_served() {
    let channel = serve(Path::new("/"), true, 16);
    let dir = tempfile::tempdir().unwrap();
    let mut c = Client { channel, dir };
    // Its place is there, for the container's own to be mounted on.
    let proc = c.lookup(ROOT, "proc");
    let Reply::Attr(attr) = c.call(Request::Stat { node: proc.node }).0 else {
        panic!()
    };
    // Not its links: they are the host's processes, which come and go.
    assert_eq!((attr.dev, attr.ino), (proc.attr.dev, proc.attr.ino));
    let inside = Request::Lookup {
        dir: proc.node,
        name: name("version"),
        open: true,
    };
    assert_eq!(c.errno(inside), Errno::EACCES);
    for nodes in [false, true] {
        let list = Request::ReadDir {
            dir: proc.node,
            from: 0,
            nodes,
        };
        assert_eq!(c.errno(list), Errno::EACCES);
    }
    // Nor by way of a listing.
    let list = Request::ReadDir {
        dir: ROOT,
        from: 0,
        nodes: true,
    };
    let Reply::Entries { list, .. } = c.call(list).0 else {
        panic!()
    };
    let listed = list.iter().find(|e| e.name == b"proc").unwrap();
    let inside = Request::Lookup {
        dir: listed.entry.unwrap().node,
        name: name("self"),
        open: false,
    };
    assert_eq!(c.errno(inside), Errno::EACCES);
}

#[test]
fn the_hosts_kernel_is_served_where_it_is_named_alone() {
    for (below, tree) in [(false, "/proc"), (true, "/proc"), (true, "/")] {
        let channel = serve_tree(Path::new(tree), below, true, 16);
        let dir = tempfile::tempdir().unwrap();
        let mut c = Client { channel, dir };
        let Reply::Attr(_) = c.call(Request::Stat { node: ROOT }).0 else {
            panic!()
        };
        let inside = Request::Lookup {
            dir: ROOT,
            name: name(if tree == "/" { "etc" } else { "version" }),
            open: false,
        };
        match (below, tree) {
            (true, "/proc") => assert_eq!(c.errno(inside), Errno::EACCES),
            _ => drop(c.entry(inside)),
        }
    }
}

#[test]
fn lies_about_what_was_moved_harm_the_liar_alone() {
    let mut c = Client::new(false);
    std::fs::create_dir_all(c.path("a/b")).unwrap();
    std::fs::create_dir(c.path("x")).unwrap();
    let a = c.lookup(ROOT, "a").node;
    let b = c.lookup(a, "b").node;
    let x = c.lookup(ROOT, "x").node;
    // A file moves; the numbers of directories are said to be its, under one another.
    for (n, (moved, new_dir)) in [(a, b), (b, a), (x, x), (ROOT, x)].into_iter().enumerate() {
        std::fs::write(c.path("f"), "").unwrap();
        let request = Request::Rename {
            dir: ROOT,
            name: name("f"),
            moved: Some(moved),
            new_dir,
            new_name: name(&format!("f{n}")),
            replaced: Some(99),
            flags: 0,
        };
        // Whatever the answer: there is one, and soon.
        let _answer = c.call(request);
    }
    let _answer = c.call_forgetting(Request::Stat { node: b }, vec![a, b, x, a, ROOT]);
    std::fs::write(c.path("still"), "").unwrap();
    c.lookup(ROOT, "still");
}

#[test]
fn a_broken_connection_leaves_the_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "").unwrap();
    let pair = || Channel::pair().unwrap();
    let ((bad, bad_end), (good, good_end)) = (pair(), pair());
    let tree = |end: Channel| TreeConfig {
        root: File::open(dir.path()).unwrap().into(),
        below: false,
        connection: end.into_socket(),
        readonly: true,
        name: "t".into(),
    };
    let trees = vec![tree(bad_end), tree(good_end)];
    std::thread::spawn(move || Server::new(trees, Magic::unconfined(), 64).unwrap().run());
    // Descriptors that nobody asked for, and a request that is none.
    let null = File::open("/dev/null").unwrap();
    let many = vec![std::os::fd::AsFd::as_fd(&null); control::MAX_FDS];
    bad.send(&vec![255u8; 64], &many).unwrap();
    let mut c = Client { channel: good, dir };
    assert_eq!(c.lookup(ROOT, "a").attr.size, 0);
    let mut bad = bad;
    assert!(bad.recv::<Reply>().is_err());
}
