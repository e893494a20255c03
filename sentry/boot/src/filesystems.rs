//! The types of file systems that a guest can mount, beyond tmpfs: what they take, and how they are
//! made.

use abi::Errno;
use auth::Capability;
use fs_devpts::DevPts;
use std::sync::Arc;
use syscalls::ParameterKind as K;
use syscalls::{FileSystemType, MountArgs, Parameter, Services, parameter};
use task::TaskCx;
use vfs::{MountSpec, SuperFlags};

/// Those that show what the sandbox has: names and parameters.
pub(crate) const TREES: &[(&str, &[Parameter])] = &[
    ("proc", PROC),
    ("sysfs", &[]),
    ("cgroup2", CGROUP),
    ("mqueue", &[]),
];

/// proc(5)
const PROC: &[Parameter] = &[
    parameter("gid", K::Id),
    parameter(
        "hidepid",
        K::One(&[
            "0",
            "1",
            "2",
            "4",
            "off",
            "noaccess",
            "invisible",
            "ptraceable",
        ]),
    ),
    parameter("subset", K::One(&["pid"])),
];

/// cgroups(7): what changes nothing here, where there is one group.
const CGROUP: &[Parameter] = &[
    parameter("favordynmods", K::Flag),
    parameter("memory_hugetlb_accounting", K::Flag),
    parameter("memory_localevents", K::Flag),
    parameter("memory_recursiveprot", K::Flag),
    parameter("nsdelegate", K::Flag),
    parameter("pids_localevents", K::Flag),
];

/// pts(4)
const DEVPTS: &[Parameter] = &[
    parameter("gid", K::Id),
    parameter("max", K::Number),
    parameter("mode", K::Mode),
    parameter("newinstance", K::Flag),
    parameter("ptmxmode", K::Mode),
    parameter("uid", K::Id),
];

/// Documentation/filesystems/overlayfs.rst of Linux.
const OVERLAY: &[Parameter] = &[
    parameter("lowerdir", K::Text),
    parameter("lowerdir+", K::Text),
    parameter("upperdir", K::Text),
    parameter("workdir", K::Text),
    parameter("default_permissions", K::Flag),
    parameter("index", K::One(&["on", "off"])),
    parameter("metacopy", K::One(&["on", "off"])),
    parameter("nfs_export", K::One(&["on", "off"])),
    parameter("redirect_dir", K::One(&["on", "off", "follow", "nofollow"])),
    parameter("uuid", K::One(&["on", "off", "null", "auto"])),
    parameter("volatile", K::Flag),
    parameter("xino", K::One(&["on", "off", "auto"])),
];

pub(crate) fn proc(cx: &TaskCx, args: &MountArgs<'_>) -> Result<MountSpec, Errno> {
    let options = fs_proc::Options::parse(args.parameters)?;
    Ok(fs_proc::mount_spec(
        cx.kernel(),
        cx.container(),
        cx.pid_namespace(),
        options,
    ))
}

fn devpts(cx: &TaskCx, args: &MountArgs<'_>) -> Result<MountSpec, Errno> {
    let pts = DevPts::new(cx, args.options)?;
    let mut spec = MountSpec::new(pts.root(), "devpts");
    spec.fs = pts;
    Ok(spec)
}

fn overlay(cx: &TaskCx, args: &MountArgs<'_>) -> Result<MountSpec, Errno> {
    // Layers are read as nobody in particular, and show what other mounts hide.
    if !cx.creds_ref().has(Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let stack = fs_overlay::Stack::find(cx, args.parameters)?;
    let mut spec = MountSpec::new(stack.unite(cx)?, "overlay");
    spec.super_flags.set(SuperFlags::RDONLY, stack.are_fixed());
    spec.fs = Arc::new(stack);
    Ok(spec)
}

/// Lets mount(2) know those that a guest makes for itself.
pub(crate) fn add(services: &mut Services) {
    services.add_filesystem(
        "devpts",
        FileSystemType {
            parameters: DEVPTS,
            escapes: false,
            make: Arc::new(devpts),
        },
    );
    services.add_filesystem(
        "overlay",
        FileSystemType {
            parameters: OVERLAY,
            escapes: true,
            make: Arc::new(overlay),
        },
    );
}
