//! `longshore volume …`

mod archive;
mod args;
mod copies;
mod ls;
mod prune;

pub(super) use args::VolumeCommand;

use std::time::Duration;

use serde_json::Value;

use super::Exit;
use super::client::{Client, percent};
use super::failure::Failure;
use super::image::Failures;
use super::out::Out;
use super::words::printable;
use crate::api::wire::{RemovedVolume, VolumeAsk, VolumeEntry};
use args::CreateArgs;

/// Walking through many files, and removing them, takes its time.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) async fn run(client: &Client, command: VolumeCommand, out: &mut Out) -> Result<Exit, Failure> {
    match command {
        VolumeCommand::Ls(args) => ls::run(client, &args, out).await,
        VolumeCommand::Inspect(args) => inspect(client, &args.names, out).await,
        VolumeCommand::Create(args) => create(client, &args, out).await,
        VolumeCommand::Rm(args) => remove(client, &args.names, out).await,
        VolumeCommand::Prune(args) => prune::run(client, &args, out).await,
        VolumeCommand::Export(args) => archive::export(client, &args, out).await,
        VolumeCommand::Import(args) => archive::import(client, &args, out).await,
        VolumeCommand::Snapshot(args) => copies::make(client, &args, out).await,
        VolumeCommand::Snapshots(args) => copies::list(client, &args, out).await,
        VolumeCommand::Restore(args) => copies::restore(client, &args, out).await,
        VolumeCommand::RmSnapshot(args) => copies::remove(client, &args, out).await,
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/volumes/{}", percent(name))
}

/// What the daemon says, in whole, as a list: one name or many.
async fn inspect(client: &Client, names: &[String], out: &mut Out) -> Result<Exit, Failure> {
    let mut found = Vec::new();
    let mut failed = Failures::default();
    for name in names {
        let path = format!("{}?size=true", path(name));
        found.extend(failed.note(client.get_within::<Value>(&path, PATIENCE).await, out)?);
    }
    out.json(&found)?;
    Ok(failed.exit())
}

async fn create(client: &Client, args: &CreateArgs, out: &mut Out) -> Result<Exit, Failure> {
    let (driver_opts, labels) = (args.opt.iter().cloned().collect(), args.label.iter().cloned().collect());
    let ask = VolumeAsk { name: args.name.clone(), driver_opts, labels };
    let made: VolumeEntry = client.tell("/api/v1/volumes", &ask, PATIENCE).await?;
    out.text(&format!("{}\n", printable(&made.name)))?;
    Ok(Exit::Fine)
}

async fn remove(client: &Client, names: &[String], out: &mut Out) -> Result<Exit, Failure> {
    let mut failed = Failures::default();
    for name in names {
        let removed = client.delete(&path(name), PATIENCE).await;
        if let Some(removed) = failed.note(removed, out)? {
            out.text(&gone(&removed))?;
        }
    }
    Ok(failed.exit())
}

fn gone(removed: &RemovedVolume) -> String {
    let name = printable(&removed.name);
    match removed.snapshots {
        0 => format!("removed {name}\n"),
        1 => format!("removed {name}; a snapshot of it is kept (`longshore volume snapshots {name}`)\n"),
        n => format!("removed {name}; {n} snapshots of it are kept (`longshore volume snapshots {name}`)\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_volume_is_said() {
        let removed = |snapshots| gone(&RemovedVolume { name: "v\u{1b}".into(), snapshots });
        assert_eq!(removed(0), "removed v\\u{1b}\n");
        assert!(removed(1).contains("a snapshot of it is kept") && removed(2).contains("2 snapshots"));
        assert_eq!(path("a/b"), "/api/v1/volumes/a%2Fb");
    }
}
