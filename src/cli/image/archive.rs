//! `longshore image save`, `load` and `import`: archives pass through, they are never held.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use super::args::{ImportArgs, LoadArgs, SaveArgs};
use super::bars::{Display, Way};
use super::lines::follow;
use crate::api::wire::{Loaded, LoadedImage};
use crate::cli::Exit;
use crate::cli::client::{Client, Pieces, percent};
use crate::cli::failure::Failure;
use crate::cli::out::Out;
use crate::cli::upload::{self, Source};
use crate::cli::words::printable;

pub(super) async fn save(client: &Client, args: &SaveArgs, out: &mut Out) -> Result<Exit, Failure> {
    let file = args.output.as_deref().filter(|path| *path != Path::new("-"));
    if file.is_none() && io::stdout().is_terminal() {
        return Err(Failure::Said(
            "an archive is nothing for a terminal; write it to a file by -o FILE, or into a pipe".to_owned(),
        ));
    }
    let names: String = args.names.iter().map(|name| format!("&name={}", percent(name))).collect();
    let pieces = client.download(&format!("/api/v1/images/save?format={}{names}", args.format.word())).await?;
    match file {
        Some(path) => into_file(pieces, path).await?,
        None => into_pipe(pieces, out).await?,
    }
    Ok(Exit::Fine)
}

pub(in crate::cli) async fn into_pipe(mut pieces: Pieces, out: &mut Out) -> Result<(), Failure> {
    while let Some(piece) = pieces.next().await? {
        out.bytes(&piece)?;
    }
    Ok(out.flush()?)
}

/// The file is there whole, or as it was.
pub(in crate::cli) async fn into_file(mut pieces: Pieces, path: &Path) -> Result<(), Failure> {
    let cannot = |err: io::Error| Failure::Said(format!("cannot write {}: {err}", path.display()));
    // A device or a pipe is written to as it is.
    let special = std::fs::metadata(path).is_ok_and(|found| !found.is_file());
    let draft = Draft(if special { path.to_owned() } else { beside(path) }, !special);
    let mut file =
        if special { File::options().write(true).open(path) } else { File::create_new(&draft.0) }.map_err(cannot)?;
    while let Some(piece) = pieces.next().await? {
        file.write_all(&piece).map_err(cannot)?;
    }
    if special {
        return Ok(());
    }
    file.sync_all().and_then(|()| std::fs::rename(&draft.0, path)).map_err(cannot)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

/// What is not whole is not left behind.
struct Draft(PathBuf, bool);

impl Drop for Draft {
    fn drop(&mut self) {
        if self.1 {
            // Gone already where it was renamed.
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

pub(super) async fn load(client: &Client, args: &LoadArgs, out: &mut Out) -> Result<Exit, Failure> {
    let query = args.name.as_ref().map_or_else(String::new, |name| format!("?name={}", percent(name)));
    let from = source(args.input.as_deref().unwrap_or(Path::new("-")), "-i FILE")?;
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
    let from = source(&args.file, "FILE")?;
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

fn source<'a>(path: &'a Path, say: &str) -> Result<Source<'a>, Failure> {
    if path != Path::new("-") {
        return Ok(if path.is_dir() { Source::Folder(path) } else { Source::File(path) });
    }
    if io::stdin().is_terminal() {
        return Err(Failure::Said(format!("no archive comes from a terminal; say {say}, or use a pipe")));
    }
    Ok(Source::Stdin)
}

pub(super) fn line(loaded: &LoadedImage, quiet: bool) -> String {
    let digest = printable(&loaded.digest);
    match &loaded.image {
        _ if quiet => format!("{digest}\n"),
        Some(image) => format!("{}  {digest}\n", printable(image)),
        None => format!("<none>  {digest}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_sent_as_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(source(dir.path(), "").unwrap(), Source::Folder(dir.path()));
        let file = dir.path().join("a.tar");
        assert_eq!(source(&file, "").unwrap(), Source::File(&file));
        assert_eq!(beside(Path::new("/a/b.tar")).parent(), Some(Path::new("/a")));
    }
}
