//! sendfile(2), splice(2), tee(2), copy_file_range(2): bytes from file to file.

use crate::pipe::Pipe;
use crate::{File, FileType, OpenFlags};
use abi::Errno;
use ctx::{Ctx, Dst, Src, SysErr, SysResult};
use std::sync::Arc;

/// Bytes moved at a time.
const CHUNK: usize = 128 * 1024;

fn check(input: &File, output: &File) -> Result<(), Errno> {
    if !input.flags().readable() || !output.flags().writable() {
        return Err(Errno::EBADF);
    }
    Ok(())
}

/// Reads at `offset`, or at the position for `None`.
fn read_at(cx: &dyn Ctx, file: &File, offset: Option<u64>, buf: &mut [u8]) -> SysResult {
    match offset {
        Some(offset) => file.pread(cx, offset, &mut Dst::ours(buf)),
        None => file.read(cx, &mut Dst::ours(buf)),
    }
}

/// Writes at `offset`, or at the position for `None`.
fn write_at(cx: &dyn Ctx, file: &File, offset: Option<u64>, bytes: &[u8]) -> SysResult {
    match offset {
        Some(offset) => file.pwrite(cx, offset, &mut Src::ours(bytes)),
        None => file.write(cx, &mut Src::ours(bytes)),
    }
}

/// Copies up to `count` bytes of a file that has positions. An error after some is a short count.
fn copy(
    cx: &dyn Ctx,
    input: &File,
    mut in_offset: Option<&mut u64>,
    output: &File,
    mut out_offset: Option<&mut u64>,
    count: usize,
) -> SysResult {
    let mut buf = vec![0; count.min(CHUNK)];
    let mut total = 0;
    while total < count && !(total > 0 && cx.interrupted()) {
        let want = buf.len().min(count - total);
        let step = (|| {
            let got = read_at(cx, input, in_offset.as_deref().copied(), &mut buf[..want])?;
            let wrote = match write_at(cx, output, out_offset.as_deref().copied(), &buf[..got]) {
                Ok(wrote) => wrote,
                Err(e) => {
                    unread(input, in_offset.is_none(), got)?;
                    return Err(e);
                }
            };
            unread(input, in_offset.is_none(), got - wrote.min(got))?;
            Ok((got, wrote))
        })();
        match step {
            Ok((got, wrote)) => {
                for offset in [in_offset.as_deref_mut(), out_offset.as_deref_mut()]
                    .into_iter()
                    .flatten()
                {
                    *offset = offset.saturating_add(wrote as u64);
                }
                total += wrote;
                if wrote < got || got < want {
                    break;
                }
            }
            Err(e) if total == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(total)
}

/// Moves the position back over what was read but not used.
fn unread(file: &File, by_position: bool, bytes: usize) -> Result<(), Errno> {
    if by_position && bytes > 0 {
        file.unread(bytes)?;
    }
    Ok(())
}

/// sendfile(2). With `offset`, reads there and moves it; else at `input`'s position.
///
/// # Errors
/// Those of sendfile(2).
pub fn sendfile(
    cx: &dyn Ctx,
    output: &File,
    input: &File,
    offset: Option<&mut u64>,
    count: usize,
) -> SysResult {
    check(input, output)?;
    if offset.is_some() && !input.seekable() {
        return Err(Errno::ESPIPE.into());
    }
    if output.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL.into());
    }
    // From one pipe to another as splice(2); to anything else, only what has positions is sent.
    if let (Some(pipe), Some(_)) = (Pipe::of(input), Pipe::of(output)) {
        return from_pipe(cx, pipe, output, None, count, input.nonblocking());
    }
    // What lseek(2) takes is looked at no further for nothing.
    if count == 0 && (input.ops().stays_at_start() || input.is_dir()) {
        return Ok(0);
    }
    if !input.seekable() || input.is_dir() {
        return Err(Errno::EINVAL.into());
    }
    copy(cx, input, offset, output, None, count)
}

/// copy_file_range(2). The offsets, where given, are used and moved in place of positions.
///
/// # Errors
/// Those of copy_file_range(2).
pub fn copy_file_range(
    cx: &dyn Ctx,
    (input, in_offset): (&File, Option<&mut u64>),
    (output, out_offset): (&File, Option<&mut u64>),
    count: usize,
) -> SysResult {
    if input.is_dir() || output.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    if input.kind() != Some(FileType::Regular) || output.kind() != Some(FileType::Regular) {
        return Err(Errno::EINVAL.into());
    }
    check(input, output)?;
    if output.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF.into());
    }
    let from = in_offset
        .as_deref()
        .copied()
        .unwrap_or_else(|| input.position());
    let to = out_offset
        .as_deref()
        .copied()
        .unwrap_or_else(|| output.position());
    let len = count as u64;
    let (Some(from_end), Some(to_end)) = (from.checked_add(len), to.checked_add(len)) else {
        return Err(Errno::EOVERFLOW.into());
    };
    if input.lock_key() == output.lock_key() && from < to_end && to < from_end && count > 0 {
        return Err(Errno::EINVAL.into());
    }
    copy(cx, input, in_offset, output, out_offset, count)
}

/// splice(2): one of the two must be a pipe. Offsets are for the other one.
///
/// # Errors
/// Those of splice(2).
pub fn splice(
    cx: &dyn Ctx,
    (input, in_offset): (&File, Option<&mut u64>),
    (output, out_offset): (&File, Option<&mut u64>),
    count: usize,
    nonblocking: bool,
) -> SysResult {
    check(input, output)?;
    let (from, to) = (Pipe::of(input), Pipe::of(output));
    if (from.is_some() && in_offset.is_some()) || (to.is_some() && out_offset.is_some()) {
        return Err(Errno::ESPIPE.into());
    }
    let nonblock = |f: &File| nonblocking || f.nonblocking();
    match (from, to) {
        (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Err(Errno::EINVAL.into()),
        (Some(a), Some(b)) => {
            let (from, to) = (nonblock(input), nonblock(output));
            pipe_to_pipe(cx, a, b, count, from, to)
        }
        (Some(pipe), None) => {
            if output.flags().contains(OpenFlags::APPEND) {
                return Err(Errno::EINVAL.into());
            }
            if out_offset.is_some() && !output.seekable() {
                return Err(Errno::ESPIPE.into());
            }
            from_pipe(cx, pipe, output, out_offset, count, nonblock(input))
        }
        (None, Some(pipe)) => to_pipe(cx, input, in_offset, pipe, count, nonblock(output)),
        (None, None) => Err(Errno::EINVAL.into()),
    }
}

fn to_pipe(
    cx: &dyn Ctx,
    input: &File,
    in_offset: Option<&mut u64>,
    pipe: &Pipe,
    count: usize,
    nonblocking: bool,
) -> SysResult {
    if input.is_dir() {
        return Err(Errno::EINVAL.into());
    }
    if in_offset.is_some() && !input.seekable() {
        return Err(Errno::ESPIPE.into());
    }
    let room = pipe.wait_room(cx, nonblocking)?;
    let mut bytes = vec![0; count.min(room)];
    let n = read_at(cx, input, in_offset.as_deref().copied(), &mut bytes)?;
    if let Some(offset) = in_offset {
        *offset = offset.saturating_add(n as u64);
    }
    bytes.truncate(n);
    push(pipe, bytes);
    Ok(n)
}

/// Adds bytes, and tells those who watch for them.
fn push(pipe: &Pipe, bytes: Vec<u8>) {
    if !bytes.is_empty() {
        pipe.push(bytes);
        pipe.tell_readers();
    }
}

/// Moves bytes from pipe to pipe; waits for the first alone.
fn pipe_to_pipe(
    cx: &dyn Ctx,
    from: &Pipe,
    to: &Pipe,
    count: usize,
    from_nonblocking: bool,
    to_nonblocking: bool,
) -> SysResult {
    let (mut total, mut made_room) = (0, false);
    let result = loop {
        if total == count {
            break Ok(total);
        }
        let step = to
            .wait_room(cx, to_nonblocking || total > 0)
            .and_then(|_| from.move_slot(cx, to, count - total, from_nonblocking || total > 0));
        match step {
            Ok((0, _)) => break Ok(total),
            Ok((n, room)) => {
                total += n;
                made_room |= room;
            }
            Err(e) if total == 0 => break Err(e),
            Err(_) => break Ok(total),
        }
    };
    if total > 0 {
        to.tell_readers();
    }
    if made_room {
        from.tell_writers();
    }
    result
}

/// Moves bytes out of a pipe; waits for the first alone.
fn from_pipe(
    cx: &dyn Ctx,
    pipe: &Pipe,
    output: &File,
    mut out_offset: Option<&mut u64>,
    count: usize,
    nonblocking: bool,
) -> SysResult {
    let (mut total, mut made_room) = (0, false);
    while total < count {
        let step = pipe
            .take(cx, count - total, nonblocking || total > 0)
            .and_then(|(mut bytes, room)| {
                let all = bytes.len();
                match write_at(cx, output, out_offset.as_deref().copied(), &bytes) {
                    Ok(n) => {
                        pipe.untake(bytes.split_off(n.min(all)));
                        made_room |= room && n > 0;
                        Ok((all, n))
                    }
                    Err(e) => {
                        pipe.untake(bytes);
                        Err(e)
                    }
                }
            });
        match step {
            Ok((0, _)) => break,
            Ok((all, n)) => {
                if let Some(offset) = &mut out_offset {
                    **offset = offset.saturating_add(n as u64);
                }
                total += n;
                if n < all {
                    break;
                }
            }
            Err(e) if total == 0 => return Err(e),
            Err(_) => break,
        }
    }
    if made_room {
        pipe.tell_writers();
    }
    Ok(total)
}

/// vmsplice(2) to a pipe: what there is room for, once there is any.
///
/// # Errors
/// Those of vmsplice(2).
pub fn fill(cx: &dyn Ctx, output: &File, src: &mut Src<'_>, nonblocking: bool) -> SysResult {
    let pipe = Pipe::of(output).ok_or(Errno::EBADF)?;
    if src.remaining() == 0 {
        return Ok(0);
    }
    let room = pipe.wait_room(cx, nonblocking || output.nonblocking())?;
    let mut bytes = vec![0; room.min(src.remaining())];
    let n = src.take(&mut bytes)?;
    bytes.truncate(n);
    push(pipe, bytes);
    Ok(n)
}

/// vmsplice(2) from a pipe: what is in it, once there is anything.
///
/// # Errors
/// Those of vmsplice(2).
pub fn drain(cx: &dyn Ctx, input: &File, dst: &mut Dst<'_>, nonblocking: bool) -> SysResult {
    let pipe = Pipe::of(input).ok_or(Errno::EBADF)?;
    let (mut total, mut made_room) = (0, false);
    while dst.remaining() > 0 {
        let wait = !(total > 0 || nonblocking || input.nonblocking());
        let (mut bytes, room) = match pipe.take(cx, dst.remaining(), !wait) {
            Ok((bytes, _)) if bytes.is_empty() => break,
            Ok(taken) => taken,
            Err(_) if total > 0 => break,
            Err(e) => return Err(e),
        };
        let put = dst.put(&bytes);
        let n = *put.as_ref().unwrap_or(&0);
        let all = bytes.len();
        pipe.untake(bytes.split_off(n.min(all)));
        total += n;
        made_room |= room && n > 0;
        if n < all {
            if total == 0 {
                put?;
            }
            break;
        }
    }
    if made_room {
        pipe.tell_writers();
    }
    Ok(total)
}

/// tee(2): copies what is in one pipe to another and leaves it there.
///
/// # Errors
/// Those of tee(2).
pub fn tee(
    cx: &dyn Ctx,
    input: &File,
    output: &File,
    count: usize,
    nonblocking: bool,
) -> Result<usize, SysErr> {
    check(input, output)?;
    match (Pipe::of(input), Pipe::of(output)) {
        (Some(a), Some(b)) if !Arc::ptr_eq(a, b) => {
            let room = b.wait_room(cx, nonblocking || output.nonblocking())?;
            let slots = a.peek(cx, count, room, nonblocking || input.nonblocking())?;
            let n = slots.iter().map(Vec::len).sum();
            slots.into_iter().for_each(|bytes| b.push(bytes));
            if n > 0 {
                b.tell_readers();
            }
            Ok(n)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
