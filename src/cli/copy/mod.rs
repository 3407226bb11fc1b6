//! `longshore cp`, `longshore diff`, `longshore export`: files of containers.
//!
//! What comes out of a container is not trusted: it is unpacked by descriptor, no link of it leads out of the place that it was
//! copied to, and it brings neither devices nor, without `-a`, owners and set-user-id bits.

pub(super) mod args;
mod local;

use std::io::{self, IsTerminal as _};
use std::path::Path;

use super::Exit;
use super::client::{Client, percent};
use super::download::Target;
use super::failure::Failure;
use super::out::Out;
use super::upload::{self, Source};
use super::words::{bytes, printable};
use crate::api::wire::{Copied, FileChange, FileChangeKind};
use args::{CpArgs, DiffArgs, ExportArgs};

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    /// `NAME:PATH`
    Container { name: &'a str, path: &'a str },
    /// A path here.
    Here(&'a Path),
    /// `-`
    Stream,
}

/// A path here that holds a colon is written with a slash before it, as `./a:b`.
fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        _ if text == "-" => Side::Stream,
        Some((name, path)) if !name.is_empty() && !name.starts_with(['.', '/']) => Side::Container { name, path },
        Some(_) | None => Side::Here(Path::new(text)),
    }
}

pub(super) async fn run(client: &Client, args: &CpArgs, out: &mut Out) -> Result<Exit, Failure> {
    let index = args.index.map_or_else(String::new, |index| format!("&index={index}"));
    match (side(&args.from), side(&args.to)) {
        (Side::Container { name, path }, Side::Here(to)) => {
            local::beforehand(to)?;
            let pieces = client.download(&from(name, path, args.follow_link, &index)?).await?;
            let done = local::unpack(pieces, to, args.archive).await?;
            if done.left_out > 0 {
                out.complain(&format!(
                    "{} of the copied were devices, which are not made here: they were left out",
                    done.left_out
                ));
            }
            told(args, done.files, done.bytes, &to.display().to_string(), out)
        }
        (Side::Container { name, path }, Side::Stream) => {
            let target = Target::of(None)?;
            let pieces = client.download(&from(name, path, args.follow_link, &index)?).await?;
            target.take(pieces, out).await?;
            Ok(Exit::Fine)
        }
        (Side::Here(source), Side::Container { name, path }) => {
            let (bytes, fault) = local::pack(source, args.follow_link)?;
            let url = format!("{}&place=true", into(name, path, args.archive, &index)?);
            let copied: Copied = client.put(&url, bytes).await.map_err(|failure| fault.or(failure))?;
            told(args, copied.files, copied.bytes, &format!("{}:{path}", copied.container), out)
        }
        (Side::Stream, Side::Container { name, path }) => {
            if io::stdin().is_terminal() {
                return Err(Failure::Said("no archive comes from a terminal; use a pipe".to_owned()));
            }
            let (bytes, fault) = upload::open(Source::Stdin)?;
            let url = into(name, path, args.archive, &index)?;
            let copied: Copied = client.put(&url, bytes).await.map_err(|failure| fault.or(failure))?;
            told(args, copied.files, copied.bytes, &format!("{}:{path}", copied.container), out)
        }
        (Side::Container { .. }, Side::Container { .. }) => Err(Failure::Said(
            "between two containers there is no way in one step; use `longshore cp A:PATH - | longshore cp - B:PATH`"
                .to_owned(),
        )),
        (Side::Here(_) | Side::Stream, Side::Here(_) | Side::Stream) => {
            Err(Failure::Said("one of the two has to be a container's: write NAME:PATH".to_owned()))
        }
    }
}

fn from(name: &str, path: &str, follow: bool, index: &str) -> Result<String, Failure> {
    let path = given(path)?;
    Ok(format!("/api/v1/containers/{}/archive?path={}&follow={follow}{index}", percent(name), percent(path)))
}

fn into(name: &str, path: &str, owners: bool, index: &str) -> Result<String, Failure> {
    let path = given(path)?;
    Ok(format!("/api/v1/containers/{}/archive?path={}&owners={owners}{index}", percent(name), percent(path)))
}

fn given(path: &str) -> Result<&str, Failure> {
    if path.is_empty() {
        return Err(Failure::Said("after the container's name and the colon comes a path, as in web:/etc".to_owned()));
    }
    Ok(path)
}

fn told(args: &CpArgs, files: u64, count: u64, place: &str, out: &mut Out) -> Result<Exit, Failure> {
    if !args.quiet && out.watched {
        let of = if files == 1 { "1 file".to_owned() } else { format!("{files} files and folders") };
        out.error_bytes(format!("{of}, {}, copied to {}\n", bytes(count), printable(place)).as_bytes())?;
    }
    Ok(Exit::Fine)
}

pub(super) async fn diff(client: &Client, args: &DiffArgs, out: &mut Out) -> Result<Exit, Failure> {
    let index = args.index.map_or_else(String::new, |index| format!("?index={index}"));
    let changes: Vec<FileChange> = client
        .get_within(&format!("/api/v1/containers/{}/changes{index}", percent(&args.name)), local::PATIENCE)
        .await?;
    if args.json {
        out.json(&changes)?;
        return Ok(Exit::Fine);
    }
    for change in changes {
        let letter = match change.kind {
            FileChangeKind::Added => 'A',
            FileChangeKind::Changed => 'C',
            FileChangeKind::Deleted => 'D',
        };
        out.text(&format!("{letter} {}\n", printable(&change.path)))?;
    }
    Ok(Exit::Fine)
}

pub(super) async fn export(client: &Client, args: &ExportArgs, out: &mut Out) -> Result<Exit, Failure> {
    let target = Target::of(args.output.as_deref())?;
    let index = args.index.map_or_else(String::new, |index| format!("?index={index}"));
    let pieces = client.download(&format!("/api/v1/containers/{}/export{index}", percent(&args.name))).await?;
    target.take(pieces, out).await?;
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_after_a_name_means_a_container() {
        let container = |name, path| Side::Container { name, path };
        let here = |path| Side::Here(Path::new(path));
        for (text, expected) in [
            ("web:/etc", container("web", "/etc")),
            ("shop/web:etc", container("shop/web", "etc")),
            ("web:/a:b", container("web", "/a:b")),
            ("web:", container("web", "")),
            ("./a:b", here("./a:b")),
            ("/a:b", here("/a:b")),
            ("a", here("a")),
            ("-", Side::Stream),
        ] {
            assert_eq!(side(text), expected, "{text}");
        }
    }
}
