//! `longshore volume export` and `import`

use std::path::Path;

use super::args::{ExportArgs, ImportArgs};
use super::path;
use crate::api::wire::ImportedVolume;
use crate::cli::Exit;
use crate::cli::client::Client;
use crate::cli::download::Target;
use crate::cli::failure::Failure;
use crate::cli::image::bars::{Display, Way};
use crate::cli::image::lines::follow;
use crate::cli::out::Out;
use crate::cli::upload;
use crate::cli::words::printable;

pub(super) async fn export(client: &Client, args: &ExportArgs, out: &mut Out) -> Result<Exit, Failure> {
    let to = Target::of(args.output.as_deref())?;
    let pieces = client.download(&format!("{}/export", path(&args.name))).await?;
    to.take(pieces, out).await?;
    Ok(Exit::Fine)
}

pub(super) async fn import(client: &Client, args: &ImportArgs, out: &mut Out) -> Result<Exit, Failure> {
    let from = upload::source(args.file.as_deref().unwrap_or(Path::new("-")), "FILE")?;
    let (bytes, fault) = upload::open(from)?;
    let query = if args.replace { "?replace=true" } else { "" };
    let sent = match client.put_lines(&format!("{}/import{query}", path(&args.name)), bytes).await {
        Ok(lines) => follow::<ImportedVolume>(lines, Display::new(Way::Load, true, false)).await,
        Err(failure) => Err(failure),
    };
    let imported = sent.map_err(|failure| fault.or(failure))?;
    out.text(&format!("{}\n", printable(&imported.volume)))?;
    Ok(Exit::Fine)
}
