//! From a sandbox thread's registers and stack to the names of functions.
//!
//! The executables are found by build id among files that this process knows by itself: the
//! sandbox process's own executable, this one, and what is loaded here. What the sandbox calls its
//! modules is shown and never opened; it is the same program, started again.

use addr2line::Loader;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Unwinder};
use launcher::{Module, SampleHead, SlotHead};
use object::{Object, ObjectSection};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

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

/// Where a thread is, from which its frames follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    pub(crate) bp: u64,
}

impl From<&SlotHead> for Registers {
    fn from(head: &SlotHead) -> Registers {
        let SlotHead { ip, sp, bp, .. } = *head;
        Registers { ip, sp, bp }
    }
}

impl From<&SampleHead> for Registers {
    fn from(head: &SampleHead) -> Registers {
        let SampleHead { ip, sp, bp, .. } = *head;
        Registers { ip, sp, bp }
    }
}

impl Symbols {
    /// For what is loaded into a process whose executable is at `executable`.
    pub(crate) fn new(modules: &[Module], executable: &Path) -> Symbols {
        let files: Vec<(Vec<u8>, PathBuf)> = candidates(executable)
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
        for module in modules {
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
    pub(crate) fn unwind(&self, at: Registers, stack: &[u8]) -> (Vec<FrameAddress>, bool) {
        let mut read = |address: u64| {
            let from = address
                .checked_sub(at.sp)
                .and_then(|n| usize::try_from(n).ok());
            let word = from.and_then(|from| stack.get(from..from.checked_add(8)?));
            let word = word.and_then(|w| w.try_into().ok());
            word.map(u64::from_le_bytes).ok_or(())
        };
        let registers = UnwindRegsX86_64::new(at.ip, at.sp, at.bp);
        let mut cache = CacheX86_64::<_>::new();
        let mut walk = self
            .unwinder
            .iter_frames(at.ip, registers, &mut cache, &mut read);
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

    /// The number of the module, as they were given, that an address is in.
    pub(crate) fn module(&self, address: u64) -> Option<usize> {
        let within = |k: &Known| (k.module.start..k.module.end).contains(&address);
        self.modules.iter().position(within)
    }

    /// The functions at an address, the innermost of inlined ones first; none where nothing is
    /// known of it.
    pub(crate) fn functions(&self, address: u64) -> Vec<Function> {
        let found = self.known(address).and_then(|(known, offset)| {
            let loader = known.loader.as_ref()?;
            let functions = functions(loader, offset);
            let symbol = |name| Function {
                name: demangled(name),
                ..Function::default()
            };
            match functions.is_empty() {
                true => loader.find_symbol(offset).map(|name| vec![symbol(name)]),
                false => Some(functions),
            }
        });
        found.unwrap_or_default()
    }
}

/// A function, and a place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its full name.
    pub(crate) name: String,
    /// Its file and the line, where they are known.
    pub(crate) place: Option<(String, u32)>,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.place {
            Some((file, line)) => write!(f, " ({file}:{line})"),
            None => Ok(()),
        }
    }
}

fn demangled(name: &str) -> String {
    addr2line::demangle_auto(name.into(), None).into_owned()
}

fn functions(loader: &Loader, offset: u64) -> Vec<Function> {
    let mut functions = Vec::new();
    let Ok(mut frames) = loader.find_frames(offset) else {
        return functions;
    };
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref().and_then(|f| f.demangle().ok());
        let name = name.map_or_else(|| "?".to_owned(), Cow::into_owned);
        let place = frame.location.and_then(|location| {
            let file = location.file?;
            // Of the standard library: what stands before says which release of it.
            let file = file.strip_prefix("/rustc/").map_or(file, |rest| {
                rest.split_once('/').map_or(rest, |(_, path)| path)
            });
            Some((file.to_owned(), location.line.unwrap_or(0)))
        });
        functions.push(Function { name, place });
    }
    // Line tables know only the last part of a name; the whole one is the symbol's, which is that of
    // the function that all others were inlined into.
    if let (Some(last), Some(symbol)) = (functions.last_mut(), loader.find_symbol(offset)) {
        last.name = demangled(symbol);
    }
    functions
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
