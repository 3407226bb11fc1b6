//! The daemon's own log, to standard error; its level can be changed while it runs.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, reload};

use super::config::{Config, LogFormat};

type Targets = tracing_subscriber::filter::Targets;

/// Changes the level.
#[derive(Clone)]
pub(super) struct Level {
    set: reload::Handle<Targets, tracing_subscriber::Registry>,
}

impl Level {
    /// Everything that is decided, or only what happens.
    pub(super) fn debug(&self, debug: bool) {
        if let Err(error) = self.set.reload(targets(debug)) {
            tracing::warn!(%error, "the log's level stays as it was");
        }
    }
}

/// Our own modules; of the crates below only warnings.
fn targets(debug: bool) -> Targets {
    let level = if debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    Targets::new().with_default(LevelFilter::WARN).with_target("longshore", level)
}

pub(super) fn begin(config: &Config) -> Level {
    let (filter, set) = reload::Layer::new(targets(config.debug));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let layer = match config.file.log_format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // A second subscriber in one process can only be a test's; the first one stays.
    if tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().is_err() {
        eprintln!("longshore: a log is already set up");
    }
    Level { set }
}
