//! The daemon on the real host, from outside: as root, with a registry on loopback and real containers.
//!
//! Every test has a [`support::Lab`] of its own and waits for values, never for times.
#![expect(clippy::unwrap_used, reason = "tests")]

mod by_hand;
mod collection;
mod command_line;
mod contents;
mod copy;
mod exec;
mod files;
mod folder;
mod generations;
mod health;
mod hooks;
mod image_volumes;
mod images;
mod images_cli;
mod inside;
mod jobs;
mod lifecycle;
mod live;
mod logins;
mod network_kinds;
mod networks;
mod order;
mod output;
mod policies;
mod profiles;
mod resources;
mod run_once;
mod support;
mod survival;
mod volume_commands;
mod volumes;
mod why;
