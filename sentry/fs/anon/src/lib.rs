//! Files that are objects of the kernel rather than of a file system: eventfd, timerfd and
//! inotify.
//!
//! Pipes and epolls are in `vfs`, since files of a tree (FIFOs) and every open file (its epolls)
//! need them; a memfd is a file of a tmpfs.
#![forbid(unsafe_code)]

mod eventfd;
pub mod inotify;
mod timerfd;

pub use eventfd::EventFd;
pub use inotify::Inotify;
pub use timerfd::TimerFd;
