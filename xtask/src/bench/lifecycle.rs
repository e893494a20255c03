//! What each step of a container's life takes: create, start, a process beside, and the removal.

use super::Figures;
use super::places::{Kind, Place};
use anyhow::{Result, bail};
use std::process::Stdio;
use std::time::Instant;

/// The name of these rows, of each of which there is a figure, and of their bundle.
pub(super) const NAME: &str = "life";

/// Once through. A peer that cannot do one of the steps here is left out from there on.
pub(super) fn measure(place: &Place, figures: &mut Figures) -> Result<()> {
    let (dir, id) = place.next(NAME);
    let dir = dir.to_string_lossy().into_owned();
    let mut whole = 0.0;
    for (row, args) in [
        ("life_create", &["create", "--bundle", &dir, &id] as &[&str]),
        ("life_start", &["start", &id]),
        ("life_exec", &["exec", &id, "/bin/true"]),
        ("life_delete", &["delete", "--force", &id]),
    ] {
        let mut command = place.base();
        // Not through pipes: what stays would hold them.
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let begin = Instant::now();
        let status = command.status()?;
        let took = begin.elapsed().as_secs_f64() * 1e9;
        if !status.success() {
            place.clean_up();
            if place.kind == Kind::Ours {
                bail!("{}: {row}: {status}", place.name);
            }
            println!("SKIPPED {}: {row}: {status}", place.name);
            return Ok(());
        }
        figures.add(&place.name, row, took);
        whole += took;
    }
    figures.add(&place.name, "life_whole", whole);
    Ok(())
}
