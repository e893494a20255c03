//! Where the root process's program is, when its name has no slash (execvp(3)).

use abi::Errno;
use ctx::Ctx;
use std::sync::Arc;
use task::{Kernel, ProcessSpec};
use vfs::{FileType, KernelFsCtx, LookupFlags, Start, access, walk};

/// What a shell looks through when nobody said otherwise.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Completes `spec.path` from `PATH` in the container's environment.
///
/// # Errors
/// `ENOENT` where no directory has it, `EACCES` where one does and it cannot be executed.
pub(crate) fn in_path(kernel: &Kernel, spec: &mut ProcessSpec) -> Result<(), Errno> {
    // Whether one with a slash is there, exec finds out.
    if !spec.path.contains(&b'/') {
        spec.path = find(&context(kernel, spec), spec)?;
    }
    Ok(())
}

/// Whether `spec`'s program is there and may be executed, as far as that can be told without doing
/// so.
///
/// # Errors
/// Those of [`in_path`], or for a path with a slash the walk's.
pub(crate) fn check(kernel: &Kernel, spec: &ProcessSpec) -> Result<(), Errno> {
    let cx = context(kernel, spec);
    match spec.path.contains(&b'/') {
        true => executable(&cx, &spec.path),
        false => find(&cx, spec).map(drop),
    }
}

/// How the process will see its files.
fn context(kernel: &Kernel, spec: &ProcessSpec) -> KernelFsCtx {
    let creds = Arc::new(spec.creds.clone());
    let mut cx = KernelFsCtx::with_creds(kernel.clocks().clone(), spec.mounts.clone(), creds);
    cx.set_root(spec.root.clone());
    cx.set_cwd(spec.cwd.clone());
    cx
}

fn executable(cx: &KernelFsCtx, path: &[u8]) -> Result<(), Errno> {
    let found = walk::resolve(cx, Start::Cwd, path, LookupFlags::FOLLOW);
    let at = found.map_err(|e| e.errno())?;
    match at.kind() {
        FileType::Regular => access::permission(cx, &cx.creds(), &at, access::EXEC),
        _ => Err(Errno::EACCES),
    }
}

fn find(cx: &KernelFsCtx, spec: &ProcessSpec) -> Result<Vec<u8>, Errno> {
    if spec.path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut variables = spec.envp.iter().rev();
    let path = variables.find_map(|e| e.strip_prefix(b"PATH="));
    let mut denied = None;
    for dir in path.unwrap_or(DEFAULT_PATH).split(|b| *b == b':') {
        let dir = if dir.is_empty() { b"." } else { dir };
        let candidate = [dir, b"/", &spec.path].concat();
        match executable(cx, &candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => denied = Some(Errno::EACCES),
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or(Errno::ENOENT))
}
