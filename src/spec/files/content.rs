//! What a config or a secret holds: read once, by whoever asks first.

use std::path::{Path, PathBuf};

use super::super::check::path;
use super::super::project::Reader;
use super::super::source_text::Span;
use super::definitions::{Definition, From};
use super::{MAX_BYTES, key};
use crate::model::{Content, FileKind, Fingerprint};
use crate::spec::FileError;

/// What became of reading it.
#[derive(Debug, Clone)]
pub(super) enum Read {
    /// Its content.
    Done(Content, Fingerprint),
    /// Who asks for it is not started: why, and what to do.
    Held(String, String),
    /// The file is not used; that was told.
    Refused,
}

/// Reads it where that was not done yet.
pub(super) fn content(
    kind: FileKind,
    name: &str,
    definition: &mut Definition,
    bytes_left: &mut usize,
    reader: &mut Reader<'_, '_>,
) -> Read {
    if let Some(read) = &definition.read {
        return read.clone();
    }
    let of = Of { kind, name, at: definition.at };
    let read = match &definition.from {
        From::Nothing(message, hint) => Err(Read::Held(message.clone(), (*hint).to_owned())),
        From::Text(text) => Ok(text.clone().into_bytes()),
        From::Variable(variable, at) => of.variable(variable, *at, reader),
        From::File(file, at) => of.file(Path::new(file), *at, reader),
        From::External(outside) => of.external(outside, reader),
    };
    let read = match read {
        Err(read) => read,
        Ok(bytes) if bytes.len() > MAX_BYTES => {
            of.refuse(of.at, format!("is larger than {} KiB", MAX_BYTES >> 10), "put large files into a volume", reader)
        }
        Ok(bytes) => match bytes_left.checked_sub(bytes.len()) {
            Some(left) => {
                *bytes_left = left;
                let fingerprint = reader.fingerprint(&bytes);
                Read::Done(Content::new(bytes), fingerprint)
            }
            None => {
                of.refuse(of.at, "is too much: all of them may hold 16 MiB", "put large files into a volume", reader)
            }
        },
    };
    definition.read = Some(read.clone());
    read
}

struct Of<'n> {
    kind: FileKind,
    name: &'n str,
    at: Span,
}

type Bytes = Result<Vec<u8>, Read>;

impl Of<'_> {
    fn refuse(&self, at: Span, what: impl AsRef<str>, hint: &str, reader: &mut Reader<'_, '_>) -> Read {
        let message = format!("the {} {:?} {}", self.kind.word(), self.name, what.as_ref());
        let noted = reader.report.error(at, &path(key(self.kind), self.name), message);
        if !hint.is_empty() {
            noted.hint(hint);
        }
        Read::Refused
    }

    fn variable(&self, variable: &str, at: Span, reader: &mut Reader<'_, '_>) -> Bytes {
        reader.variable(variable).map(String::into_bytes).ok_or_else(|| {
            let what = format!("is the variable {variable:?}, which is not set");
            self.refuse(
                at,
                what,
                "set it in the `.env` file beside the state file: the daemon's own environment is not used",
                reader,
            )
        })
    }

    fn file(&self, file: &Path, at: Span, reader: &mut Reader<'_, '_>) -> Bytes {
        let secret = self.kind == FileKind::Secret;
        let encrypted = secret && is_age(file);
        let read = if secret { reader.secret_file(file) } else { reader.any_file(file).map(|bytes| (bytes, false)) };
        let (bytes, open) = match read {
            Ok(read) => read,
            Err(error) => {
                let what = format!("is not read from {file:?}: {error}");
                return Err(self.refuse(at, what, hint(&error), reader));
            }
        };
        if encrypted {
            let decrypted = reader.decrypt(&bytes);
            return decrypted.map_err(|why| self.refuse(at, format!("in {file:?} {why}"), "", reader));
        }
        if open {
            let message = format!("anybody on this machine may read the secret {:?} in {file:?}", self.name);
            let noted = reader.report.warning(at, &path(key(self.kind), self.name), message);
            noted.hint("take that from them (chmod 0600), or encrypt it to this host: `longshore secret encrypt`");
        }
        Ok(bytes)
    }

    /// A file beside the state file comes before what was set by hand.
    fn external(&self, outside: &str, reader: &mut Reader<'_, '_>) -> Bytes {
        if self.kind == FileKind::Config {
            let message = format!("the config {:?} is external, and configs are kept nowhere but in files", self.name);
            return Err(Read::Held(message, "write `file` or `content` instead of `external`".to_owned()));
        }
        let beside = PathBuf::from(format!("{outside}.age"));
        if !outside.contains('/') {
            match reader.secret_file(&beside) {
                Ok((bytes, _)) => {
                    let decrypted = reader.decrypt(&bytes);
                    return decrypted.map_err(|why| self.refuse(self.at, format!("in {beside:?} {why}"), "", reader));
                }
                Err(FileError::Missing) => {}
                Err(error) => {
                    let what = format!("is not read from {beside:?}: {error}");
                    return Err(self.refuse(self.at, what, hint(&error), reader));
                }
            }
        }
        reader.external_secret(outside).map_err(|error| match error {
            FileError::Missing => Read::Held(
                format!("the secret {outside:?} is not there yet"),
                format!("`longshore secret set {outside}` keeps it here, or put {outside}.age beside the state file"),
            ),
            error => Read::Held(format!("the secret {outside:?} is not read: {error}"), "set it again".to_owned()),
        })
    }
}

fn hint(error: &FileError) -> &'static str {
    match error {
        FileError::Missing => "create it; its path begins at the state file's folder",
        FileError::TooLarge => "a config or a secret may hold 1 MiB; put large files into a volume",
        FileError::NotRegular => "name the file itself; a folder is mounted by `volumes`",
        FileError::Outside => "copy it beside the state file, or mount it by `volumes`",
        FileError::Io(_) => "",
    }
}

fn is_age(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "age")
}
