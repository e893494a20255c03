//! Which platform a container gets.

use crate::error::LaunchError;
use crate::state::{StateRoot, write_atomically};
use platform_api::registry::{self, RegistryError};
use platform_api::{Platform, Probe};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The remembered choice; in a directory of containers, where no id can have this name.
const FILE: &str = ".platform.json";

/// What a choice depends on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Choice {
    /// The host's boot: another one may have another kernel.
    boot: String,
    /// The device that was named.
    device: Option<PathBuf>,
    /// The platforms there were.
    among: Vec<String>,
    /// The one that was fastest.
    platform: String,
}

/// The platform called `name`, or with `auto` the fastest that is ready (with `device`, where one
/// is named), remembered in `root`.
///
/// # Errors
/// When there is none of that name, or none that is ready.
pub fn choose(
    name: &str,
    device: Option<&Path>,
    root: &StateRoot,
) -> Result<&'static dyn Platform, LaunchError> {
    if name != "auto" {
        return Ok(registry::lookup(name)?);
    }
    let all = registry::all()?;
    if let [only] = all.as_slice() {
        return Ok(*only);
    }
    let file = root.path().join(FILE);
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let among: Vec<String> = all.iter().map(|p| p.name().to_owned()).collect();
    let remembered: Option<Choice> = std::fs::read(&file)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(choice) =
        remembered.filter(|c| c.boot == boot && c.among == among && c.device.as_deref() == device)
        && let Ok(platform) = registry::lookup(&choice.platform)
    {
        return Ok(platform);
    }
    let platform = fastest(&all, device)?;
    let choice = Choice {
        boot,
        device: device.map(Path::to_owned),
        among,
        platform: platform.name().to_owned(),
    };
    let written = serde_json::to_vec(&choice).map(|bytes| write_atomically(&file, &bytes));
    tracing::debug!(?written, platform = platform.name(), "chosen by probing");
    Ok(platform)
}

fn fastest(
    all: &[&'static dyn Platform],
    device: Option<&Path>,
) -> Result<&'static dyn Platform, LaunchError> {
    let mut best: Option<(&'static dyn Platform, std::time::Duration)> = None;
    let mut reasons = Vec::new();
    // From the highest priority down: a tie stays with the earlier.
    for platform in all {
        match platform.probe(device) {
            Probe::Ready { round_trip } if best.is_none_or(|(_, other)| round_trip < other) => {
                best = Some((*platform, round_trip));
            }
            Probe::Unavailable { reason, remedy } => {
                reasons.push(format!("{}: {reason} ({remedy})", platform.name()));
            }
            _ => {}
        }
    }
    best.map(|(platform, _)| platform)
        .ok_or_else(|| match reasons.is_empty() {
            true => RegistryError::Empty.into(),
            false => LaunchError::NoPlatform(reasons.join("; ")),
        })
}
