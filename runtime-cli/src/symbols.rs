//! From a sandbox thread's registers and stack to the names of functions.
//!
//! The executables are found by build id among files that this process knows by itself: the
//! sandbox process's own executable, this one, and what is loaded here. What the sandbox calls its
//! modules is shown and never opened; it is the same program, started again.

use addr2line::Loader;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Unwinder};
use launcher::debug::Report;
use launcher::{Module, SlotHead};
use object::{Object, ObjectSection};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Most frames of one stack.
const MAX_FRAMES: usize = 256;

/// What is loaded in a sandbox process, with names where its files were found.
pub(crate) struct Symbols {
    modules: Vec<Known>,
    unwinder: UnwinderX86_64<Vec<u8>>,
}

struct Known {
    module: Module,
    /// What it is called in the report.
    name: String,
    loader: Option<Loader>,
}

impl Symbols {
    /// For the modules of a report.
    pub(crate) fn new(report: &Report) -> Symbols {
        let files: Vec<(Vec<u8>, PathBuf)> = candidates(&report.executable)
            .into_iter()
            .filter_map(|path| {
                let data = fs::read(&path).ok()?;
                let file = object::File::parse(&*data).ok()?;
                Some((file.build_id().ok()??.to_vec(), path))
            })
            .collect();
        let mut symbols = Symbols {
            modules: Vec::new(),
            unwinder: UnwinderX86_64::new(),
        };
        for module in &report.modules {
            let file = files
                .iter()
                .find(|(id, _)| !id.is_empty() && *id == module.build_id);
            let name = Path::new(&module.name).file_name();
            let name = name.map(|n| n.to_string_lossy().into_owned());
            if let Some((_, path)) = file
                && let Some(sections) = sections(path)
            {
                let range = module.start..module.end;
                symbols.unwinder.add_module(framehop::Module::new(
                    module.name.clone(),
                    range,
                    module.base,
                    sections,
                ));
            }
            symbols.modules.push(Known {
                module: module.clone(),
                name: name.unwrap_or_else(|| "ringfence".to_owned()),
                loader: file.and_then(|(_, path)| Loader::new(path).ok()),
            });
        }
        symbols
    }

    /// The frames of a thread, innermost first, and whether they go down to where it began.
    pub(crate) fn unwind(&self, head: &SlotHead, stack: &[u8]) -> (Vec<FrameAddress>, bool) {
        let mut read = |address: u64| {
            let at = address
                .checked_sub(head.sp)
                .and_then(|n| usize::try_from(n).ok());
            let word = at.and_then(|at| stack.get(at..at.checked_add(8)?));
            let word = word.and_then(|w| w.try_into().ok());
            word.map(u64::from_le_bytes).ok_or(())
        };
        let registers = UnwindRegsX86_64::new(head.ip, head.sp, head.bp);
        let mut cache = CacheX86_64::<_>::new();
        let mut walk = self
            .unwinder
            .iter_frames(head.ip, registers, &mut cache, &mut read);
        let mut frames = Vec::new();
        while frames.len() < MAX_FRAMES {
            match walk.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, true),
                Err(_) => break,
            }
        }
        (frames, false)
    }

    fn known(&self, address: u64) -> Option<(&Known, u64)> {
        let within = |k: &&Known| (k.module.start..k.module.end).contains(&address);
        let known = self.modules.iter().find(within)?;
        Some((known, address.wrapping_sub(known.module.base)))
    }

    /// An address as module and offset.
    pub(crate) fn place(&self, address: u64) -> String {
        match self.known(address) {
            Some((known, offset)) => format!("{}+{offset:#x}", known.name),
            None => format!("{address:#x}"),
        }
    }

    /// The functions at an address, the innermost of inlined ones first, with their places in the
    /// source; one line at least.
    pub(crate) fn names(&self, address: u64) -> Vec<String> {
        let found = self.known(address).and_then(|(known, offset)| {
            let loader = known.loader.as_ref()?;
            let lines = lines(loader, offset);
            match lines.is_empty() {
                true => loader.find_symbol(offset).map(|name| vec![demangled(name)]),
                false => Some(lines),
            }
        });
        found.unwrap_or_else(|| vec!["?".to_owned()])
    }
}

fn demangled(name: &str) -> String {
    addr2line::demangle_auto(name.into(), None).into_owned()
}

fn lines(loader: &Loader, offset: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let Ok(mut frames) = loader.find_frames(offset) else {
        return lines;
    };
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref().and_then(|f| f.demangle().ok());
        let mut line = match (name, loader.find_symbol(offset)) {
            (Some(name), _) => name.into_owned(),
            (None, Some(name)) => demangled(name),
            (None, None) => "?".to_owned(),
        };
        if let Some(location) = frame.location
            && let Some(file) = location.file
        {
            // Of the standard library: what stands before says which release of it.
            let file = file.strip_prefix("/rustc/").map_or(file, |rest| {
                rest.split_once('/').map_or(rest, |(_, path)| path)
            });
            line.push_str(&format!(" ({file}:{})", location.line.unwrap_or(0)));
        }
        lines.push(line);
    }
    lines
}

/// Files that may be what is loaded there.
fn candidates(executable: &Path) -> Vec<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let loaded: BTreeSet<PathBuf> = maps
        .lines()
        .filter_map(|line| line.find('/').and_then(|at| line.get(at..)))
        .map(PathBuf::from)
        .collect();
    [executable.to_owned(), PathBuf::from("/proc/self/exe")]
        .into_iter()
        .chain(loaded)
        .collect()
}

/// What is needed to unwind through a file.
fn sections(path: &Path) -> Option<ExplicitModuleSectionInfo<Vec<u8>>> {
    let data = fs::read(path).ok()?;
    let file = object::File::parse(&*data).ok()?;
    let section = |name: &str| {
        let section = file.section_by_name(name)?;
        let start = section.address();
        let range = start..start.checked_add(section.size())?;
        Some((range, section.data().ok()?.to_vec()))
    };
    let (eh_frame_svma, eh_frame) = section(".eh_frame")?;
    let header = section(".eh_frame_hdr");
    let text = section(".text");
    Some(ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma: text.as_ref().map(|(range, _)| range.clone()),
        text: text.map(|(_, data)| data),
        got_svma: section(".got").map(|(range, _)| range),
        eh_frame_svma: Some(eh_frame_svma),
        eh_frame: Some(eh_frame),
        eh_frame_hdr_svma: header.as_ref().map(|(range, _)| range.clone()),
        eh_frame_hdr: header.map(|(_, data)| data),
        ..ExplicitModuleSectionInfo::default()
    })
}
