//! `longshore image save`, `load` and `import`: archives pass through, they are never held.

use std::path::Path;

use super::args::{ImportArgs, LoadArgs, SaveArgs};
use super::bars::{Display, Way};
use super::lines::follow;
use crate::api::wire::{Loaded, LoadedImage};
use crate::cli::Exit;
use crate::cli::client::{Client, percent};
use crate::cli::download::Target;
use crate::cli::failure::Failure;
use crate::cli::out::Out;
use crate::cli::upload::{self, Source};
use crate::cli::words::printable;

pub(super) async fn save(client: &Client, args: &SaveArgs, out: &mut Out) -> Result<Exit, Failure> {
    let to = Target::of(args.output.as_deref())?;
    let names: String = args.names.iter().map(|name| format!("&name={}", percent(name))).collect();
    let pieces = client.download(&format!("/api/v1/images/save?format={}{names}", args.format.word())).await?;
    to.take(pieces, out).await?;
    Ok(Exit::Fine)
}

pub(super) async fn load(client: &Client, args: &LoadArgs, out: &mut Out) -> Result<Exit, Failure> {
    let query = args.name.as_ref().map_or_else(String::new, |name| format!("?name={}", percent(name)));
    let from = upload::source(args.input.as_deref().unwrap_or(Path::new("-")), "-i FILE")?;
    let loaded = send(client, &format!("/api/v1/images/load{query}"), from, args.quiet, out).await?;
    for image in &loaded.images {
        out.text(&line(image, args.quiet))?;
    }
    Ok(Exit::Fine)
}

pub(super) async fn import(client: &Client, args: &ImportArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut query = format!("?name={}", percent(&args.name));
    let changes = args.change.iter().map(|line| ("change", line));
    let others = [("message", &args.message), ("platform", &args.platform)];
    for (key, value) in changes.chain(others.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))) {
        query.push_str(&format!("&{key}={}", percent(value)));
    }
    let from = upload::source(&args.file, "FILE")?;
    let imported = send(client, &format!("/api/v1/images/import{query}"), from, false, out).await?;
    for image in &imported.images {
        out.text(&line(image, false))?;
    }
    Ok(Exit::Fine)
}

async fn send(client: &Client, path: &str, from: Source<'_>, quiet: bool, out: &Out) -> Result<Loaded, Failure> {
    let (bytes, fault) = upload::open(from)?;
    let sent = match client.upload(path, bytes).await {
        Ok(lines) => follow(lines, Display::new(Way::Load, quiet, out.watched)).await,
        Err(failure) => Err(failure),
    };
    sent.map_err(|failure| fault.or(failure))
}

pub(super) fn line(loaded: &LoadedImage, quiet: bool) -> String {
    let digest = printable(&loaded.digest);
    match &loaded.image {
        _ if quiet => format!("{digest}\n"),
        Some(image) => format!("{}  {digest}\n", printable(image)),
        None => format!("<none>  {digest}\n"),
    }
}
