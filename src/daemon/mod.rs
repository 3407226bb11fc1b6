//! Wiring: configuration, start, shutdown, locks, systemd. It joins the rooms and knows none of their rules.
//!
//! ```text
//! config ─▶ locks ─▶ store, images, containers ─▶ what was remembered ─▶ reconcile::run
//!                                                     └▶ API (503 until the first look) ─▶ READY to systemd
//! SIGTERM, SIGINT: stop    SIGHUP: reload    SIGUSR1: dump the state to the log
//! ```

mod config;
mod exec;
mod files;
mod images;
mod images_settings;
mod listen;
mod lock;
mod network_settings;
mod notices;
mod numbers;
mod offline;
mod output;
mod pipes;
mod registries;
mod remember;
mod secrets;
mod signals;
mod start;
mod systemd;
mod trace;
mod volumes;

use std::process::ExitCode;
use std::time::Duration;

pub use config::{
    CgroupDriverFile, CollectFile, Config, ConfigFile, Flags, ImageLimits, ImagesFile, NoticeFile, ProxyFile,
    RegistryFile, schema,
};
pub use offline::{check, plan};

use crate::model::{Problem, sentence};

/// The daemon's role: reads the configuration, then serves until it is told to stop.
#[must_use]
pub fn main(flags: &Flags, validate: bool) -> ExitCode {
    let config = match Config::load(flags) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    if validate {
        println!("configuration OK");
        return ExitCode::SUCCESS;
    }
    let trace = trace::begin(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = match runtime {
        Ok(runtime) => {
            let served = runtime.block_on(start::serve(config, flags.clone(), trace));
            // Blocking work that is still under way is taken up again at the next start; nobody waits for it.
            runtime.shutdown_timeout(Duration::from_millis(300));
            served
        }
        Err(error) => Err(start::StartError::Runtime(error)),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longshore: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

fn refuse(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("longshore: {problem}");
    }
    ExitCode::FAILURE
}
