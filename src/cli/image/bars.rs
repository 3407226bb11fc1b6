//! How a transfer is shown: moving bars on a terminal, else a line where a layer changes its state.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::api::wire::{ImageProgress, LayerState, LayerStep, TransferWait};
use crate::cli::out::now;
use crate::cli::words::{bytes, image, printable, span};
use crate::model::Timestamp;

/// What moves: how fast, and how long it still takes.
const MOVES: &str = "{prefix:12} {msg:9} [{wide_bar}] {binary_bytes:>10} of {binary_total_bytes:<10} {binary_bytes_per_sec:>12} {left:>4}";
/// What stands; as wide as what moves.
const STANDS: &str =
    "{prefix:12} {msg:9} [{wide_bar}] {binary_bytes:>10} of {binary_total_bytes:<10}                  ";
const UNMEASURED: &str = "{prefix:12} {binary_bytes:>10} {binary_bytes_per_sec:>12}";
/// Of more layers than these only those that move are shown, so that all fits on a screen.
const MANY: usize = 12;

/// Which way the layers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Way {
    /// From a registry.
    Pull,
    /// To a registry.
    Push,
    /// From an archive.
    Load,
    /// Nowhere: they are looked at, and fetched where that is needed.
    Verify,
}

/// How it is shown.
pub(in crate::cli) enum Display {
    /// Not at all.
    Quiet,
    /// To a person.
    Bars(Box<Bars>),
    /// Into a log.
    Lines(Changes),
}

impl Display {
    pub(in crate::cli) fn new(way: Way, quiet: bool, watched: bool) -> Self {
        match (quiet, watched) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Bars(Box::new(Bars::new(way, ProgressDrawTarget::stderr_with_hz(10)))),
            (false, false) => Self::Lines(Changes::new(way)),
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
pub(in crate::cli) struct Bars {
    way: Way,
    screen: MultiProgress,
    layers: BTreeMap<String, (ProgressBar, LayerState)>,
    total: ProgressBar,
    note: ProgressBar,
    last: ImageProgress,
}

impl Bars {
    fn new(way: Way, target: ProgressDrawTarget) -> Self {
        let screen = MultiProgress::with_draw_target(target);
        let total = screen.add(ProgressBar::no_length().with_style(style(UNMEASURED)).with_prefix("total"));
        let note = screen.add(ProgressBar::no_length().with_style(style("{wide_msg}")));
        Self { way, screen, layers: BTreeMap::new(), total, note, last: ImageProgress::default() }
    }

    fn show(&mut self, progress: ImageProgress) {
        let few = progress.layers.len() <= MANY;
        for layer in &progress.layers {
            if few || moves(layer.state) {
                self.layer(layer);
            } else if let Some((bar, _)) = self.layers.remove(&layer.digest) {
                self.screen.remove(&bar);
            }
        }
        if let Some(total) = progress.total
            && self.total.length() != Some(total)
        {
            self.total.set_length(total);
            self.total.set_style(style(MOVES));
            // What was here already did not come now: it would make the rate look better than it is.
            self.total.set_position(progress.done);
            self.total.reset_eta();
        }
        if !progress.layers.is_empty() {
            let here = |layer: &&LayerStep| matches!(layer.state, LayerState::Done | LayerState::Present);
            let here = progress.layers.iter().filter(here).count();
            self.total.set_message(format!("{here} of {}", progress.layers.len()));
        }
        self.total.set_position(progress.done);
        self.last = progress;
        self.say();
    }

    fn layer(&mut self, layer: &LayerStep) {
        let Some((bar, state)) = self.layers.get_mut(&layer.digest) else {
            let bar = ProgressBar::new(layer.total).with_style(style(template(layer.state)));
            let bar = bar.with_prefix(short(&layer.digest)).with_message(word(self.way, layer.state));
            let bar = self.screen.insert_before(&self.total, bar.with_position(layer.done));
            bar.reset_eta();
            bar.force_draw();
            self.layers.insert(layer.digest.clone(), (bar, layer.state));
            return;
        };
        if bar.position() == layer.done && *state == layer.state && bar.length() == Some(layer.total) {
            return;
        }
        bar.set_length(layer.total);
        bar.set_position(layer.done);
        if moves(layer.state) != moves(*state) {
            bar.set_style(style(template(layer.state)));
            // The time in which nothing was to come says nothing about how fast it comes.
            bar.reset_eta();
        }
        bar.set_message(word(self.way, layer.state));
        *state = layer.state;
        // Not all of these changes were drawn: the last one is.
        bar.force_draw();
    }

    fn say(&self) {
        self.note.set_message(note(&self.last, now()));
        self.total.force_draw();
        self.note.force_draw();
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // The result is a line of its own; bars that stand still would only be in the way.
        for (bar, _) in self.layers.values() {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
        self.note.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates of this file are sound");
    style.progress_chars("##-").with_key("left", |state: &ProgressState, text: &mut dyn fmt::Write| {
        // Nobody knows how long what does not move will take.
        let left = state.eta().as_secs().saturating_mul(1000);
        let left = if state.per_sec() < 1.0 { String::new() } else { span(left) };
        // The place is a string, which takes everything.
        let _ = text.write_str(&left);
    })
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
    format!("waits {seconds} s (attempt {} of {}): {}", wait.attempt, wait.of, printable(&wait.reason))
}

fn template(state: LayerState) -> &'static str {
    if moves(state) { MOVES } else { STANDS }
}

fn moves(state: LayerState) -> bool {
    matches!(state, LayerState::Fetching | LayerState::Unpacking)
}

fn word(way: Way, state: LayerState) -> &'static str {
    match (state, way) {
        (LayerState::Waiting, _) => "waits",
        (LayerState::Fetching | LayerState::Unpacking, Way::Push) => "sending",
        (LayerState::Fetching, Way::Load) => "reading",
        (LayerState::Fetching, Way::Pull | Way::Verify) => "fetching",
        (LayerState::Unpacking, Way::Pull | Way::Load | Way::Verify) => "unpacking",
        (LayerState::Done, _) => "done",
        (LayerState::Present, Way::Push) => "there",
        (LayerState::Present, Way::Pull | Way::Load | Way::Verify) => "here",
    }
}

/// Twelve digits of a digest.
pub(super) fn short(digest: &str) -> String {
    printable(digest.split_once(':').map_or(digest, |(_, hex)| hex)).chars().take(12).collect()
}

/// What was last said about each layer, so that nothing is said twice.
pub(in crate::cli) struct Changes {
    way: Way,
    said: BTreeMap<String, LayerState>,
    wait: Option<(String, u32)>,
    checks: Option<String>,
}

impl Changes {
    fn new(way: Way) -> Self {
        Self { way, said: BTreeMap::new(), wait: None, checks: None }
    }

    fn lines(&mut self, progress: &ImageProgress, now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        for layer in &progress.layers {
            let before = self.said.insert(layer.digest.clone(), layer.state);
            // That a layer has to wait for its turn is no news.
            if before != Some(layer.state) && layer.state != LayerState::Waiting {
                lines.push(format!(
                    "{}  {:<9}  {}",
                    short(&layer.digest),
                    word(self.way, layer.state),
                    bytes(layer.total)
                ));
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
        let mut changes = Changes::new(Way::Pull);
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
        let mut bars = Bars::new(Way::Push, ProgressDrawTarget::hidden());
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

    #[test]
    fn of_many_layers_those_that_move_are_shown() {
        let mut bars = Bars::new(Way::Pull, ProgressDrawTarget::hidden());
        let mut layers: Vec<_> = "0123456789abcdef".chars().map(|hex| layer(hex, 0, LayerState::Waiting)).collect();
        layers[3].state = LayerState::Fetching;
        bars.show(ImageProgress { layers: layers.clone(), ..ImageProgress::default() });
        assert_eq!(bars.layers.len(), 1);
        layers[3].state = LayerState::Done;
        layers[4].state = LayerState::Unpacking;
        bars.show(ImageProgress { layers: layers.clone(), ..ImageProgress::default() });
        assert_eq!(bars.layers.keys().collect::<Vec<_>>(), [&layers[4].digest]);
        assert_eq!(bars.total.message(), "1 of 16");
    }
}
