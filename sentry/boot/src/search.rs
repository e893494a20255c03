//! Where the root process's program is, when its name has no slash (execvp(3)).

use abi::Errno;
use std::sync::Arc;
use task::{Kernel, ProcessSpec};
use vfs::{FileType, KernelFsCtx, LookupFlags, Start, VfsPath, access, walk};

/// What a shell looks through when nobody said otherwise.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Completes `spec.path` from `PATH` in the container's environment.
///
/// # Errors
/// `ENOENT` where no directory has it, `EACCES` where one does and it cannot be executed.
pub(crate) fn in_path(kernel: &Kernel, spec: &mut ProcessSpec) -> Result<(), Errno> {
    if spec.path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if spec.path.contains(&b'/') {
        return Ok(());
    }
    let creds = Arc::new(spec.creds.clone());
    let mut cx =
        KernelFsCtx::with_creds(kernel.clocks().clone(), spec.mounts.clone(), creds.clone());
    cx.set_root(spec.root.clone());
    cx.set_cwd(spec.cwd.clone());
    let path = spec
        .envp
        .iter()
        .rev()
        .find_map(|e| e.strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for dir in path.split(|b| *b == b':') {
        let dir = if dir.is_empty() { b"." } else { dir };
        let candidate = [dir, b"/", &spec.path].concat();
        let found = walk::resolve(&cx, Start::Cwd, &candidate, LookupFlags::FOLLOW);
        let fit = |at: VfsPath| match at.kind() {
            FileType::Regular => access::permission(&cx, &creds, &at, access::EXEC),
            _ => Err(Errno::EACCES),
        };
        match found.map_err(|e| e.errno()).and_then(fit) {
            Ok(()) => {
                spec.path = candidate;
                return Ok(());
            }
            Err(Errno::EACCES) => denied = Some(Errno::EACCES),
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or(Errno::ENOENT))
}
