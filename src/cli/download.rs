//! An archive on its way to a file or into a pipe. It passes through; it is never held.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use super::client::Pieces;
use super::failure::Failure;
use super::out::Out;

/// Where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// Standard output, which is no terminal.
    Pipe,
    /// A file.
    File(&'a Path),
}

impl<'a> Target<'a> {
    /// As `-o FILE` says; `-` or nothing is standard output.
    pub(super) fn of(output: Option<&'a Path>) -> Result<Self, Failure> {
        match output.filter(|path| *path != Path::new("-")) {
            Some(path) => Ok(Self::File(path)),
            None if io::stdout().is_terminal() => Err(Failure::Said(
                "an archive is nothing for a terminal; write it to a file by -o FILE, or into a pipe".to_owned(),
            )),
            None => Ok(Self::Pipe),
        }
    }

    pub(super) async fn take(self, pieces: Pieces, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Pipe => into_pipe(pieces, out).await,
            Self::File(path) => into_file(pieces, path).await,
        }
    }
}

async fn into_pipe(mut pieces: Pieces, out: &mut Out) -> Result<(), Failure> {
    while let Some(piece) = pieces.next().await? {
        out.bytes(&piece)?;
    }
    Ok(out.flush()?)
}

/// The file is there whole, or as it was.
async fn into_file(mut pieces: Pieces, path: &Path) -> Result<(), Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_lies_beside_its_file() {
        assert_eq!(beside(Path::new("/a/b.tar")).parent(), Some(Path::new("/a")));
    }
}
