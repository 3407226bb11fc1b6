//! The answer to long work: lines that say how far it is, and how it ended.

use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::bars::Display;
use crate::api::wire::{ImageFinding, ImageStep};
use crate::cli::client::Lines;
use crate::cli::failure::Failure;

/// The daemon says something every few seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// How often what counts down is drawn anew.
const TICK: Duration = Duration::from_secs(1);

/// Shows how it goes on until it is done.
pub(in crate::cli) async fn follow<T: DeserializeOwned>(lines: Lines, display: Display) -> Result<T, Failure> {
    follow_finding(lines, display, &mut |_| Ok(())).await
}

/// The same, and hands on what is found on the way.
pub(super) async fn follow_finding<T: DeserializeOwned>(
    mut lines: Lines,
    mut display: Display,
    found: &mut dyn FnMut(&ImageFinding) -> io::Result<()>,
) -> Result<T, Failure> {
    let mut heard = Instant::now();
    loop {
        // What was read of a line stays with `lines` where the time is over first.
        let Ok(line) = timeout(TICK, lines.next()).await else {
            if heard.elapsed() > SILENCE {
                return Err(Failure::Said(format!("the daemon said nothing for {} s", SILENCE.as_secs())));
            }
            display.tick();
            continue;
        };
        let Some(line) = line? else {
            return Err(Failure::Said("the daemon ended before the work was done; see its log".to_owned()));
        };
        heard = Instant::now();
        match serde_json::from_slice::<ImageStep<T>>(&line) {
            Ok(ImageStep::Progress(progress)) => display.show(progress),
            Ok(ImageStep::Finding(finding)) => display.aside(|| found(&finding))?,
            Ok(ImageStep::Done(done)) => return Ok(done),
            Ok(ImageStep::Error(facts)) => return Err(Failure::Refused { facts }),
            Err(err) => return Err(Failure::Said(format!("the daemon sent a line that is none: {err}"))),
        }
    }
}
