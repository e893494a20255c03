//! The cases, a family a folder of tables.

use crate::Case;

mod aio;
mod aio_raise;
mod async_io;
mod cores;
mod epoll;
mod exec;
mod faults;
mod files_data;
mod files_dirs;
mod files_meta;
mod files_open;
mod futexes;
mod futexes_pi;
mod generated_arguments;
mod generated_arguments_table;
mod generated_descriptors;
mod generated_signals;
mod generated_tree;
mod hostile;
mod inotify;
mod inotify_more;
mod jobs;
mod leases;
mod loading;
mod memory_file;
mod memory_map;
mod memory_more;
mod memory_random;
mod misc;
mod mount_fds;
mod mount_help;
mod mounting;
mod mounts_shown;
mod mqueues;
mod namespace_limits;
mod namespaces;
mod namespaces_meet;
mod overlays;
mod paths;
mod pid_namespaces;
mod pid_namespaces_signals;
mod pid_namespaces_told;
mod pipes;
mod pivot_root;
mod proc_figures;
mod processes;
mod programs;
mod propagation;
mod ptrace_calls;
mod ptrace_ends;
mod ptrace_events;
mod ptrace_looks;
mod ptrace_memory;
mod ptrace_restarts;
mod ptrace_rounds;
mod ptrace_stops;
mod rounds;
mod seccomp;
mod seccomp_notify;
mod seccomp_tasks;
mod shared_state;
mod signals;
mod signals_more;
mod sockets;
mod sysctl;
mod sysv;
mod sysv_msg;
mod terminals;
mod threads;
mod time;
mod transfers;
mod user_namespaces;
mod user_namespaces_files;
mod waits;

pub use rounds::exec_round;

/// Every family with its tables, in the order that `--list` tells.
pub const FAMILIES: &[(&str, &[&[Case]])] = &[
    (
        "files",
        &[
            files_open::CASES,
            files_data::CASES,
            files_meta::CASES,
            files_dirs::CASES,
            paths::CASES,
        ],
    ),
    (
        "memory",
        &[
            memory_map::CASES,
            memory_file::CASES,
            memory_more::CASES,
            memory_random::CASES,
        ],
    ),
    (
        "processes",
        &[
            processes::CASES,
            waits::CASES,
            exec::CASES,
            loading::CASES,
            jobs::CASES,
        ],
    ),
    (
        "signals",
        &[signals::CASES, signals_more::CASES, faults::CASES],
    ),
    ("cores", &[cores::CASES]),
    ("threads", &[threads::CASES, futexes::CASES]),
    ("futexes", &[futexes_pi::CASES, shared_state::CASES]),
    (
        "events",
        &[
            pipes::CASES,
            epoll::CASES,
            sockets::CASES,
            transfers::CASES,
            aio::CASES,
            aio_raise::CASES,
        ],
    ),
    ("async", &[async_io::CASES]),
    ("leases", &[leases::CASES]),
    ("inotify", &[inotify::CASES, inotify_more::CASES]),
    (
        "ipc",
        &[
            sysv::CASES,
            sysv_msg::CASES,
            mqueues::CASES,
            sysctl::CASES,
            namespaces::CASES,
        ],
    ),
    (
        "pids",
        &[
            pid_namespaces::CASES,
            pid_namespaces_signals::CASES,
            pid_namespaces_told::CASES,
            namespaces_meet::CASES,
        ],
    ),
    (
        "seccomp",
        &[seccomp::CASES, seccomp_notify::CASES, seccomp_tasks::CASES],
    ),
    (
        "users",
        &[
            user_namespaces::CASES,
            user_namespaces_files::CASES,
            namespace_limits::CASES,
        ],
    ),
    (
        "ptrace",
        &[
            ptrace_stops::CASES,
            ptrace_calls::CASES,
            ptrace_events::CASES,
            ptrace_ends::CASES,
            ptrace_looks::CASES,
            ptrace_memory::CASES,
            ptrace_restarts::CASES,
            ptrace_rounds::CASES,
        ],
    ),
    ("time", &[time::CASES]),
    ("terminals", &[terminals::CASES]),
    (
        "mounts",
        &[
            mounting::CASES,
            mount_fds::CASES,
            propagation::CASES,
            pivot_root::CASES,
            mounts_shown::CASES,
            overlays::CASES,
        ],
    ),
    ("misc", &[misc::CASES, proc_figures::CASES, hostile::CASES]),
    (
        "generated",
        &[
            generated_arguments::CASES,
            generated_descriptors::CASES,
            generated_signals::CASES,
            generated_tree::CASES,
        ],
    ),
    ("programs", &[programs::CASES]),
    ("rounds", &[rounds::CASES]),
];
