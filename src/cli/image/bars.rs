//! How a transfer is shown: moving bars on a terminal, else a line where a layer changes its state.

use std::collections::BTreeMap;
use std::io::Write as _;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::api::wire::{ImageProgress, LayerState, LayerStep, TransferWait};
use crate::cli::out::now;
use crate::cli::words::{bytes, image, printable};
use crate::model::Timestamp;

const LAYER: &str = "{prefix:12} {msg:10} [{bar:24}] {binary_bytes:>10} of {binary_total_bytes:<10} {binary_bytes_per_sec:>12} {eta:>4} left";
const TOTAL: &str = "{prefix:12} {msg:10} [{bar:24}] {binary_bytes:>10} of {binary_total_bytes:<10} {binary_bytes_per_sec:>12} {eta:>4} left";
const UNMEASURED: &str = "{prefix:12} {binary_bytes:>10} {binary_bytes_per_sec:>12}";

/// How it is shown.
pub(super) enum Display {
    /// Not at all.
    Quiet,
    /// To a person.
    Bars(Box<Bars>),
    /// Into a log.
    Lines(Changes),
}

impl Display {
    pub(super) fn new(quiet: bool, watched: bool) -> Self {
        match (quiet, watched) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Bars(Box::new(Bars::new(ProgressDrawTarget::stderr_with_hz(10)))),
            (false, false) => Self::Lines(Changes::default()),
        }
    }

    pub(super) fn show(&mut self, progress: ImageProgress) {
        match self {
            Self::Quiet => {}
            Self::Bars(bars) => bars.show(progress),
            Self::Lines(changes) => {
                for line in changes.lines(&progress, now()) {
                    // Where this cannot be printed, the answer still says how it ended.
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
        }
    }

    /// Prints something of its own, above what moves.
    pub(super) fn aside<T>(&mut self, print: impl FnOnce() -> T) -> T {
        match self {
            Self::Bars(bars) => bars.screen.suspend(print),
            Self::Quiet | Self::Lines(_) => print(),
        }
    }

    /// Time went on, and nothing was said.
    pub(super) fn tick(&mut self) {
        if let Self::Bars(bars) = self {
            bars.say();
        }
    }
}

/// A bar for each layer, one for all, and a line that says what is waited for.
pub(super) struct Bars {
    screen: MultiProgress,
    layers: BTreeMap<String, ProgressBar>,
    total: ProgressBar,
    note: ProgressBar,
    last: ImageProgress,
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Self {
        let screen = MultiProgress::with_draw_target(target);
        let total = screen.add(ProgressBar::no_length().with_style(style(UNMEASURED)).with_prefix("total"));
        let note = screen.add(ProgressBar::no_length().with_style(style("{msg}")));
        Self { screen, layers: BTreeMap::new(), total, note, last: ImageProgress::default() }
    }

    fn show(&mut self, progress: ImageProgress) {
        for layer in &progress.layers {
            self.layer(layer);
        }
        if let Some(total) = progress.total {
            if self.total.length() != Some(total) {
                self.total.set_length(total);
                self.total.set_style(style(TOTAL));
                // What was here already did not come now: it would make the rate look better than it is.
                self.total.set_position(progress.done);
                self.total.reset_eta();
            }
        }
        self.total.set_position(progress.done);
        self.last = progress;
        self.say();
    }

    fn layer(&mut self, layer: &LayerStep) {
        let bar = match self.layers.get(&layer.digest) {
            Some(bar) => bar,
            None => {
                let bar = ProgressBar::new(layer.total).with_style(style(LAYER)).with_prefix(short(&layer.digest));
                let bar = self.screen.insert_before(&self.total, bar);
                bar.set_position(layer.done);
                bar.reset_eta();
                self.layers.entry(layer.digest.clone()).or_insert(bar)
            }
        };
        bar.set_length(layer.total);
        bar.set_position(layer.done);
        if bar.is_finished() {
            return;
        }
        match layer.state {
            LayerState::Done | LayerState::Present => bar.abandon_with_message(word(layer.state)),
            LayerState::Waiting | LayerState::Fetching | LayerState::Unpacking => bar.set_message(word(layer.state)),
        }
    }

    fn say(&self) {
        self.note.set_message(note(&self.last, now()));
        self.note.tick();
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // The result is a line of its own; bars that stand still would only be in the way.
        let _ = self.screen.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are sound").progress_chars("##-")
}

fn note(progress: &ImageProgress, now: Timestamp) -> String {
    if let Some(wait) = &progress.wait {
        return waiting(wait, now);
    }
    if let Some(image) = &progress.checks {
        return checking(image);
    }
    let from = progress.from.as_ref().map_or_else(String::new, |from| format!("from {}", printable(from)));
    let resumed =
        if progress.resumed > 0 { format!("{} were here already", bytes(progress.resumed)) } else { String::new() };
    [from, resumed].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn checking(image: &str) -> String {
    format!("checking {}", printable(self::image(image)))
}

fn waiting(wait: &TransferWait, now: Timestamp) -> String {
    let seconds = wait.until.timestamp().since(now).div_ceil(1000);
    format!("waits {seconds} s: {}, attempt {} of {}", printable(&wait.reason), wait.attempt, wait.of)
}

fn word(state: LayerState) -> &'static str {
    match state {
        LayerState::Waiting => "waits",
        LayerState::Fetching => "fetching",
        LayerState::Unpacking => "unpacking",
        LayerState::Done => "done",
        LayerState::Present => "here",
    }
}

/// Twelve digits of a digest.
pub(super) fn short(digest: &str) -> String {
    printable(digest.split_once(':').map_or(digest, |(_, hex)| hex)).chars().take(12).collect()
}

/// What was last said about each layer, so that nothing is said twice.
#[derive(Default)]
pub(super) struct Changes {
    said: BTreeMap<String, LayerState>,
    wait: Option<(String, u32)>,
    checks: Option<String>,
}

impl Changes {
    fn lines(&mut self, progress: &ImageProgress, now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        for layer in &progress.layers {
            let before = self.said.insert(layer.digest.clone(), layer.state);
            // That a layer has to wait for its turn is no news.
            if before != Some(layer.state) && layer.state != LayerState::Waiting {
                lines.push(format!("{}  {:<9}  {}", short(&layer.digest), word(layer.state), bytes(layer.total)));
            }
        }
        if progress.checks != self.checks {
            lines.extend(progress.checks.as_deref().map(checking));
            self.checks.clone_from(&progress.checks);
        }
        let wait = progress.wait.as_ref().map(|wait| (wait.reason.clone(), wait.attempt));
        if wait != self.wait {
            lines.extend(progress.wait.as_ref().map(|wait| waiting(wait, now)));
            self.wait = wait;
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Time;

    fn layer(hex: char, done: u64, state: LayerState) -> LayerStep {
        LayerStep { digest: format!("sha256:{}", String::from(hex).repeat(64)), done, total: 5_000_000, state }
    }

    #[test]
    fn a_log_gets_a_line_for_each_change_and_no_more() {
        let mut changes = Changes::default();
        let wait = TransferWait {
            reason: "the registry asks to slow down".into(),
            until: Time::from(Timestamp(13_500)),
            attempt: 2,
            of: 5,
        };
        let steps = [
            (vec![layer('a', 0, LayerState::Present), layer('b', 0, LayerState::Waiting)], None),
            (vec![layer('a', 0, LayerState::Present), layer('b', 10, LayerState::Fetching)], None),
            (vec![layer('b', 20, LayerState::Fetching)], Some(wait.clone())),
            (
                vec![layer('b', 20, LayerState::Fetching)],
                Some(TransferWait { until: Time::from(Timestamp(9_000)), ..wait }),
            ),
            (vec![layer('b', 5_000_000, LayerState::Done)], None),
        ];
        let mut all = Vec::new();
        for (layers, wait) in steps {
            let progress = ImageProgress { layers, wait, ..ImageProgress::default() };
            all.extend(changes.lines(&progress, Timestamp(2_000)));
        }
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn bars_take_every_step() {
        let mut bars = Bars::new(ProgressDrawTarget::hidden());
        let layers = vec![layer('a', 7, LayerState::Fetching), layer('b', 0, LayerState::Present)];
        let progress = ImageProgress {
            layers,
            done: 7,
            total: Some(10),
            from: Some("mirror\x1b".into()),
            ..ImageProgress::default()
        };
        bars.show(progress.clone());
        bars.show(progress);
        assert_eq!((bars.total.position(), bars.total.length(), bars.layers.len()), (7, Some(10), 2));
        assert_eq!(bars.note.message(), "from mirror\\u{1b}");
    }
}
