//! From the start of `run` to the end of a container whose program ends at once.

use super::places::Place;
use super::{Figures, succeed};
use anyhow::{Result, bail};
use std::process::Stdio;
use std::time::Instant;

/// `row` is the bundle's name too.
pub(super) fn measure(place: &Place, row: &str, figures: &mut Figures) -> Result<()> {
    let mut command = place.run(row)?;
    // Not through pipes: waiting for their end would be measured too.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let begin = Instant::now();
    let status = command.status()?;
    let took = begin.elapsed();
    if !status.success() {
        place.clean_up();
        succeed(place, row, &mut place.run(row)?)?;
        bail!("{}: {row}: {status}, but not the second time", place.name);
    }
    figures.add(&place.name, row, took.as_secs_f64() * 1e9);
    Ok(())
}
