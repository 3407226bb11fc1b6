//! `longshore image …`: one file per kind of work.

pub(super) mod archive;
mod args;
pub(super) mod bars;
pub(super) mod commit;
mod history;
pub(super) mod lines;
mod ls;
mod names;
mod prune;
mod transfer;
mod verify;

pub(super) use args::ImageCommand;

use std::time::Duration;

use serde_json::Value;

use super::Exit;
use super::client::{Client, percent};
use super::failure::Failure;
use super::out::Out;

/// Removing many layers, or asking a slow disk, takes its time.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) async fn run(client: &Client, command: ImageCommand, out: &mut Out) -> Result<Exit, Failure> {
    match command {
        ImageCommand::Pull(args) => transfer::pull(client, &args, out).await,
        ImageCommand::Push(args) => transfer::push(client, &args, out).await,
        ImageCommand::Ls(args) => ls::run(client, &args, out).await,
        ImageCommand::Inspect(args) => inspect(client, &args.names, out).await,
        ImageCommand::Rm(args) => names::remove(client, &args, out).await,
        ImageCommand::Tag(args) => names::tag(client, &args, out).await,
        ImageCommand::Save(args) => archive::save(client, &args, out).await,
        ImageCommand::Load(args) => archive::load(client, &args, out).await,
        ImageCommand::Import(args) => archive::import(client, &args, out).await,
        ImageCommand::History(args) => history::run(client, &args, out).await,
        ImageCommand::Prune(args) => prune::run(client, &args, out).await,
        ImageCommand::Verify(args) => verify::run(client, &args, out).await,
        ImageCommand::Pin(args) => names::pin(client, &args.names, true, out).await,
        ImageCommand::Unpin(args) => names::pin(client, &args.names, false, out).await,
    }
}

/// What the daemon says, in whole, as a list: one name or many.
async fn inspect(client: &Client, names: &[String], out: &mut Out) -> Result<Exit, Failure> {
    let mut found = Vec::new();
    let mut failed = Failures::default();
    for name in names {
        let path = format!("/api/v1/images/inspect?name={}", percent(name));
        found.extend(failed.note(client.get_within::<Value>(&path, PATIENCE).await, out)?);
    }
    out.json(&found)?;
    Ok(failed.exit())
}

/// Several names are several questions: one that fails does not keep the others from being asked.
#[derive(Default)]
pub(super) struct Failures(bool);

impl Failures {
    pub(super) fn note<T>(&mut self, answer: Result<T, Failure>, out: &mut Out) -> Result<Option<T>, Failure> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(failure @ Failure::Refused { .. }) => {
                out.flush()?;
                out.complain(&failure.to_string());
                self.0 = true;
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }
    pub(super) fn exit(&self) -> Exit {
        if self.0 { Exit::Error } else { Exit::Fine }
    }
}
