//! The devices of a container, and the /dev that holds them.
//!
//! Drivers are registered by number with [`vfs::DeviceRegistry`], so that a node made by mknod(2)
//! or found in an image works as well as the ones made here.
#![forbid(unsafe_code)]

mod memory;
mod nodes;
mod terminals;

pub use memory::register_memory_devices;
pub use nodes::populate;
pub use terminals::register_terminals;
