//! `platforms`

use crate::lifecycle::print;
use crate::setup::Failure;
use platform_api::{Probe, registry};
use std::path::Path;

/// Prints each platform with its state, as found by trying with `device`, where one is named.
pub(crate) fn run(device: Option<&Path>) -> Result<i32, Failure> {
    let mut text = String::new();
    for platform in registry::all()? {
        let state = match platform.probe(device) {
            Probe::Ready { round_trip } => {
                format!(
                    "ready, {:.1} µs a round trip",
                    round_trip.as_secs_f64() * 1e6
                )
            }
            Probe::Unavailable { reason, remedy } => {
                format!("not ready: {reason}\n    to get it ready: {remedy}")
            }
            _ => "unknown".to_owned(),
        };
        text.push_str(&format!(
            "{} ({})\n    {state}\n",
            platform.name(),
            platform.summary()
        ));
    }
    print(&text);
    Ok(0)
}
