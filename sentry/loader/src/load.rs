//! The last step: an empty address space becomes a program's.

use crate::hardware::Hardware;
use crate::program::{Executable, Program};
use crate::segments::{self, Mapped, Place};
use crate::stack::{self, Content, at};
use abi::Errno;
use abi::page::{PAGE_SIZE, TASK_SIZE, page_up};
use ctx::{SysResult, UserMemory};
use memmap::Mappable;
use mm::{Layout, MapFile, MapFlags, MapRequest, Mm, MmLimits, Prot};
use std::any::Any;
use std::sync::Arc;
use vfs::FsCtx;

/// `USER_HZ`
const CLOCK_TICKS: u64 = 100;

/// How a program is to be loaded.
pub struct LoadOptions {
    /// Limits in force.
    pub limits: MmLimits,
    /// Whether addresses are random (personality(2), `ADDR_NO_RANDOMIZE`).
    pub randomize: bool,
    /// Real and effective user, real and effective group that it will run as.
    pub ids: [u32; 4],
    /// `AT_SECURE`: it was given what its caller does not have.
    pub secure: bool,
    /// Parameters and image of the vDSO, the same for all processes; without them all its
    /// functions are system calls.
    pub vdso: Option<VdsoParts>,
}

/// Parameters ([`vdso::PARAMS_BELOW`] bytes) and image ([`vdso::IMAGE_PAGES`] pages).
pub type VdsoParts = (Arc<dyn Mappable>, Arc<dyn Mappable>);

impl std::fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LoadOptions(secure: {}, {:?})", self.secure, self.limits)
    }
}

/// Where a loaded program begins. All other registers start as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Instruction pointer.
    pub entry: u64,
    /// Stack pointer.
    pub stack: u64,
}

/// Loads `program` into `mm`, which must be fresh, and leaves there what [`Mm::exec_info`] tells,
/// an [`Executable`] among it.
///
/// # Errors
/// What lies in headers and could not be seen before (`EINVAL`, `EEXIST`, `EFAULT`), and
/// `ENOMEM`. On Linux the old program is gone by then, and the process ends by `SIGSEGV`: the
/// caller's choice.
pub fn load(cx: &dyn FsCtx, mm: &Mm, program: Program, options: &LoadOptions) -> SysResult<Loaded> {
    let limits = &options.limits;
    let layout = mm.choose_layout(limits, options.randomize);
    let random = random_bytes::<24>();
    let (seed, gap) = random.split_last_chunk::<8>().unwrap_or((&[], &[0; 8]));
    let seed: [u8; 16] = seed.try_into().unwrap_or_default();
    let gap = if options.randomize {
        u64::from_le_bytes(*gap)
    } else {
        0
    };

    // The stack's place is taken before anything of the program's, as there: a file that
    // wants to lie there fails.
    let mut content = Content {
        filename: program.strings.filename(),
        argv: program.strings.argv(),
        envp: program.strings.envp(),
        random: seed,
        gap,
        // As many entries as there will be; their values follow.
        auxv: &[(at::NULL, 0); AUXV_LEN],
    };
    let draft = stack::build(layout.stack_top, &content)?;
    let stack_start = map_stack(
        mm,
        limits,
        &layout,
        &draft,
        program.object.segments.executable_stack,
    )?;

    let place = match &program.interpreter {
        Some(_) => Place::Near(layout.pie_base),
        // An interpreter run by its own name keeps clear of where programs and heaps go.
        None => Place::Anywhere,
    };
    let mapped = segments::map(cx, mm, limits, &program.object, place)?;
    let interpreter = match &program.interpreter {
        Some(object) => Some(segments::map(cx, mm, limits, object, Place::Over)?),
        None => None,
    };
    let vdso = match &options.vdso {
        Some(pages) => map_vdso(mm, limits, pages)?,
        None => 0,
    };
    mm.set_brk(heap_start(&layout, &mapped, &program)?);

    let auxv = auxiliary(options, &program, &mapped, interpreter.as_ref(), vdso);
    content.auxv = &auxv;
    let image = stack::build(layout.stack_top, &content)?;
    mm.write(image.pointer, &image.bytes)?;

    mm.update_exec_info(|info| {
        info.code_start = if mapped.code.1 == 0 { 0 } else { mapped.code.0 };
        info.code_end = mapped.code.1;
        info.data_start = mapped.data.0;
        info.data_end = mapped.data.1;
        info.stack_start = image.pointer;
        info.arg_start = image.args.0;
        info.arg_end = image.args.1;
        info.env_start = image.env.0;
        info.env_end = image.env.1;
        info.auxv = image.auxv;
        info.exe = Some(Arc::new(program.object.file) as Arc<dyn Any + Send + Sync>);
        info.dumpable = u8::from(program.readable);
        info.vdso = vdso;
    });
    debug_assert!(stack_start <= image.pointer);
    let entry = interpreter.map_or(mapped.entry, |i| i.entry);
    Ok(Loaded {
        entry,
        stack: image.pointer,
    })
}

impl Executable {
    /// The program that runs in `mm`.
    pub fn of(mm: &Mm) -> Option<Arc<Executable>> {
        mm.exec_info().exe.clone()?.downcast().ok()
    }
}

/// Maps the stack; returns its lowest address.
fn map_stack(
    mm: &Mm,
    limits: &MmLimits,
    layout: &Layout,
    draft: &stack::Image,
    executable: bool,
) -> Result<u64, Errno> {
    let content = draft.bytes.len() as u64;
    let len = stack::mapped_len(content, limits.stack).ok_or(Errno::ENOMEM)?;
    let start = layout.stack_top.checked_sub(len).ok_or(Errno::ENOMEM)?;
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXECUTE, executable);
    let mut request = MapRequest::anonymous(len, prot).fixed(start);
    request.flags |= MapFlags::STACK | MapFlags::GROWSDOWN;
    mm.mmap(request, limits)
}

/// Maps the vDSO and its parameters; returns the address of its image.
fn map_vdso(
    mm: &Mm,
    limits: &MmLimits,
    (params_pages, image_pages): &VdsoParts,
) -> Result<u64, Errno> {
    let image_len = vdso::IMAGE_PAGES.saturating_mul(PAGE_SIZE);
    let params = mm.find_free(vdso::PARAMS_BELOW.saturating_add(image_len))?;
    let image = params
        .checked_add(vdso::PARAMS_BELOW)
        .ok_or(Errno::ENOMEM)?;
    let code = Prot::READ | Prot::EXECUTE;
    for (addr, len, prot, max_prot, mappable, name) in [
        (
            params,
            vdso::PARAMS_BELOW,
            Prot::READ,
            Prot::READ,
            params_pages,
            "[vvar]",
        ),
        // Debuggers put breakpoints into a copy.
        (image, image_len, code, Prot::all(), image_pages, "[vdso]"),
    ] {
        let request = MapRequest {
            addr,
            len,
            prot,
            flags: MapFlags::FIXED | MapFlags::SPECIAL,
            file: Some(MapFile {
                mappable: mappable.clone(),
                offset: 0,
                max_prot,
            }),
            name: Some(name),
        };
        mm.mmap(request, limits)?;
    }
    Ok(image)
}

/// Where the heap begins: behind the program, or, for one that lies among the libraries, where
/// programs usually are.
fn heap_start(layout: &Layout, mapped: &Mapped, program: &Program) -> Result<u64, Errno> {
    let among_libraries = program.object.header.relocatable && program.interpreter.is_none();
    let end = if among_libraries {
        layout.pie_base
    } else {
        mapped.end
    };
    let start = page_up(end)
        .ok_or(Errno::EINVAL)?
        .saturating_add(layout.brk_gap);
    Ok(start.min(TASK_SIZE))
}

/// Entries that [`auxiliary`] makes.
const AUXV_LEN: usize = 17;

fn auxiliary(
    options: &LoadOptions,
    program: &Program,
    mapped: &Mapped,
    interpreter: Option<&Mapped>,
    vdso: u64,
) -> [(u64, u64); AUXV_LEN] {
    let hardware = Hardware::host();
    let [ruid, euid, rgid, egid] = options.ids.map(u64::from);
    let header = &program.object.header;
    [
        // A vDSO at zero is none: AT_IGNORE.
        (if vdso == 0 { 1 } else { at::SYSINFO_EHDR }, vdso),
        (at::MINSIGSTKSZ, hardware.min_signal_stack),
        (at::HWCAP, hardware.hwcap),
        (at::PAGESZ, PAGE_SIZE),
        (at::CLKTCK, CLOCK_TICKS),
        (at::PHDR, mapped.table),
        (at::PHENT, crate::elf::SEGMENT_LEN as u64),
        (at::PHNUM, u64::from(header.segments)),
        (at::BASE, interpreter.map_or(0, |i| i.bias)),
        (at::FLAGS, 0),
        (at::ENTRY, mapped.entry),
        (at::UID, ruid),
        (at::EUID, euid),
        (at::GID, rgid),
        (at::EGID, egid),
        (at::SECURE, u64::from(options.secure)),
        (at::HWCAP2, hardware.hwcap2),
    ]
}

/// Bytes nobody can guess.
fn random_bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    let mut done = 0;
    while done < N {
        let Some(rest) = out.get_mut(done..) else {
            break;
        };
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            // There is no host without it; zeros are safe, only not secret.
            Err(_) => break,
        }
    }
    out
}
