//! Files that are objects of the kernel rather than of a file system: eventfd, timerfd,
//! inotify, and the rings of asynchronous I/O.
//!
//! Pipes and epolls are in `vfs`, since files of a tree (FIFOs) and every open file (its epolls)
//! need them; a memfd is a file of a tmpfs.
#![forbid(unsafe_code)]

pub mod aio;
mod eventfd;
pub mod inotify;
mod timerfd;

pub use eventfd::EventFd;
pub use inotify::Inotify;
pub use timerfd::TimerFd;
