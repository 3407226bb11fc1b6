//! The HTTP door: a unix socket, and a loopback TCP port where it is asked for.
//!
//! It owns the formats ([`wire`]), the routes and the limits. It decides nothing: it shows the [`View`] that the
//! reconciler made, streams events and logs, hands [`Command`]s to the one who decides, and work on images and
//! volumes to [`ImageDoor`] and [`VolumeDoor`]. It reads no database and
//! touches no container.
//!
//! | file | noun |
//! |---|---|
//! | `doors` | what the daemon hands in: view, events, logs, commands, version, counters |
//! | `serve` | connections and their limits |
//! | `router` | which path leads where |
//! | `guard` | who may ask, and how much |
//! | `error` | how every refusal looks |
//! | `by_hand` | what is asked of services by hand |
//! | `checks` | what is known of the health of containers |
//! | `numbers` | what containers use, and their processes |
//! | `exec/` | commands in containers, and their streams |
//! | `run` | one-off containers of services |
//! | `why` | what happened to a service |
//! | `history` | the generations of a service |
//! | `files/` | files of containers |
//! | `images/` | images, and long work on them |
//! | `volumes/` | volumes, archives and copies of them |
//! | `wire/` | the formats |
//!
//! [`View`]: crate::reconcile::view::View

mod by_hand;
mod checks;
mod commands;
mod containers;
mod doors;
mod error;
mod events;
mod exec;
mod feed;
mod files;
mod find;
mod guard;
mod health;
mod history;
mod images;
mod jobs;
mod logs;
mod merge;
mod metrics;
mod networks;
mod numbers;
mod openapi;
mod output;
mod plan;
mod registries;
mod router;
mod run;
mod secrets;
mod serve;
mod stall;
mod status;
mod system;
mod version;
mod volumes;
mod why;
pub mod wire;

pub use by_hand::Signals;
pub use checks::Checks;
pub use doors::{Command, Doors, Release};
pub use events::{Events, Replay};
pub use exec::{ExecControl, ExecDoor, ExecEnd, ExecRefusal, ExecSession};
pub use files::{FAULT, FileAnswer, FileDoor, FileRefusal, ReadFiles, WriteFiles, WrittenFiles};
pub use images::{Answer, ByteStream, Findings, ImageDoor, Job, Refusal, RefusalKind};
pub use metrics::{Kind as MetricKind, Metric};
pub use numbers::Numbers;
pub use output::{LogLine, LogRequest, LogSource, LogStream, Stream};
pub use registries::{LoginRefusal, RegistryDoor, Secret};
pub use router::router;
pub use secrets::SecretDoor;
pub use serve::{Limits, serve_tcp, serve_unix};
pub use volumes::VolumeDoor;
