//! `longshore logout`

use std::time::Duration;

use super::Exit;
use super::args::LogoutArgs;
use super::client::Client;
use super::failure::Failure;
use super::out::Out;
use super::words::printable;
use crate::api::wire::{LoggedOut, LogoutAsk};

/// A credential helper may take its time.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) async fn run(client: &Client, args: LogoutArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = LogoutAsk { registry: args.registry.unwrap_or_else(|| "docker.io".to_owned()) };
    let done: LoggedOut = client.tell("/api/v1/registries/logout", &ask, PATIENCE).await?;
    let registry = printable(&done.registry);
    let text = if done.known {
        format!("the login at {registry} is forgotten\n")
    } else {
        format!("there was no login at {registry}\n")
    };
    out.text(&text)?;
    Ok(Exit::Fine)
}
