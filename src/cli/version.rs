//! `longshore version`

use serde::Serialize;

use super::Exit;
use super::args::VersionArgs;
use super::client::Client;
use super::failure::Failure;
use super::out::{Out, now};
use super::words::{age, printable};
use crate::api::wire::Version;

#[derive(Serialize)]
struct Versions {
    client: &'static str,
    daemon: Option<Version>,
}

/// No daemon is no error here: the question is about this program too.
pub(super) async fn run(client: &Client, args: &VersionArgs, out: &mut Out) -> Result<Exit, Failure> {
    let daemon = client.get::<Version>("/api/v1/version").await;
    if args.json {
        out.json(&Versions { client: env!("CARGO_PKG_VERSION"), daemon: daemon.ok() })?;
        return Ok(Exit::Fine);
    }
    out.text(&format!("client  {}\n", env!("CARGO_PKG_VERSION")))?;
    match daemon {
        Ok(daemon) => out.text(&line(&daemon))?,
        Err(failure) => out.text(&format!("daemon  -  ({failure})\n"))?,
    }
    Ok(Exit::Fine)
}

fn line(daemon: &Version) -> String {
    let commit = daemon.commit.as_deref().map_or_else(String::new, |c| format!(" ({c})"));
    let version = printable(&format!("{}{commit}", daemon.version));
    format!("daemon  {version}, API {}, pid {}, up {}\n", daemon.api, daemon.pid, age(daemon.started, now()))
}
