//! # Longshore: a container daemon that is told what should be true
//!
//! A small decision in a large world: the decision is **pure**, the world is kept in **rooms**.
//!
//! ```text
//! file event / API edit ─▶ source ─▶ spec ─▶ Desired ──┐
//! host (shims, mounts, blobs) ─────────▶ Observed ─────┴─▶ plan(desired, observed, memory, now) ─▶ one Action per key
//!                                             ▲                                                        │
//!                                             └──────────── look again ◀──── outcome noted ◀───────────┘
//! ```
//!
//! ## The rooms
//! | room | what it owns |
//! |---|---|
//! | [`model`] | the nouns, parsed once; no serde, no I/O, no clock |
//! | [`spec`] | Compose text to model, with source spans; never fails as a whole |
//! | [`plan`] | the pure planner: restart, back-off, order, drift |
//! | [`reconcile`] | decides when to look, what is under way, what the status says; the `Host` trait |
//! | [`host`] | `LinuxHost`: joins the rooms' views into one, one arm per action |
//! | [`image`] | registry client, content store, layer extraction |
//! | [`untar`] | reads tar archives, strictly |
//! | `tree` | trees of files as tar archives, both ways |
//! | [`rootfs`] | overlay mounts |
//! | [`container`] | bundle, OCI runtime spec, the link to the shim |
//! | [`shim`] | the role that is the parent of a container |
//! | [`runtime`] | short single-threaded helper calls |
//! | [`volume`] | named volumes: their folders, their records, what is mounted on them, copies of them |
//! | [`secret`] | the host's key, what is encrypted to it, secrets kept by name |
//! | [`notice`] | tells others what happened: webhooks |
//! | [`logs`] | container output: reading and following |
//! | [`store`] | the database |
//! | [`source`] | the watched folder |
//! | [`api`] | HTTP |
//! | [`cli`] | the client |
//! | [`daemon`] | wiring: configuration, start, shutdown, lock, systemd |
//!
//! ## Invariants
//! * An event never says what to do, only "look again".
//! * The planner takes one next step per object and says for every other object what it waits for.
//! * An action carries all it needs and may be done twice.
//! * Retry and restart are policy: effects fail, the planner decides when to try again.
//! * Nothing acts from the database alone; a lost database costs history, never a container.
//! * Only what Longshore made is ever removed.
//!
//! The arrows between the rooms go one way: `model <- spec, plan <- reconcile`, `model <- rooms <- host -> reconcile`,
//! front doors and `daemon` on top. `tests/tidy.rs` keeps them.

pub mod api;
pub mod cli;
pub mod container;
pub mod daemon;
pub mod host;
pub mod image;
pub mod logs;
pub mod model;
pub mod network;
pub mod notice;
pub mod plan;
pub mod reconcile;
pub mod rootfs;
pub mod runtime;
pub mod secret;
pub mod shim;
pub mod source;
pub mod spec;
pub mod store;
mod tree;
pub mod untar;
pub mod volume;
