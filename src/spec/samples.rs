//! What the tests of this room share: a few lines of Compose, read with files from memory.

use std::path::Path;

use super::{Document, FileError, Files, Input, parse};
use crate::model::{Problem, Service, SpecHash};

pub(super) struct Memory<'m>(pub(super) &'m [(&'m str, &'m str)]);

impl Files for Memory<'_> {
    fn read(&self, relative: &Path) -> Result<Vec<u8>, FileError> {
        if relative.is_absolute() || relative.starts_with("..") {
            return Err(FileError::Outside);
        }
        let found = self.0.iter().find(|(name, _)| Path::new(name) == relative);
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or(FileError::Missing)
    }
}

pub(super) fn read_bytes(text: &[u8], files: &[(&str, &str)]) -> Result<Document, Vec<Problem>> {
    parse(&Input {
        path: Path::new("shop.yaml"),
        text,
        default_name: "shop",
        default_registry: "docker.io",
        profiles: &[],
        files: &Memory(files),
        key: Default::default(),
    })
}

pub(super) fn read_with(text: &str, files: &[(&str, &str)]) -> Result<Document, Vec<Problem>> {
    read_bytes(text.as_bytes(), files)
}

/// A file that must be accepted.
pub(super) fn good(text: &str) -> Document {
    read_with(text, &[]).unwrap_or_else(|problems| panic!("{text}\n{}", shown(&problems)))
}

/// A service `a` with an image and these further lines, which must be accepted.
pub(super) fn service(lines: &str) -> Service {
    let document = good(&wrapped(lines));
    document.project.services.into_values().next().expect("the service a")
}

/// The one problem of a service `a` with these further lines.
pub(super) fn refusal(lines: &str) -> String {
    let problems = read_with(&wrapped(lines), &[]).expect_err(lines);
    assert_eq!(problems.len(), 1, "{}", shown(&problems));
    format!("{}:{} {}", problems[0].location.line, problems[0].location.column, problems[0].message)
}

fn wrapped(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    let asks = ["network", "ports", "links", "expose", "mac_address"].iter().any(|key| lines.contains(key));
    let network = if asks { "" } else { "    network_mode: none\n" };
    format!("services:\n  a:\n    image: busybox\n{lines}{network}")
}

pub(super) fn hash(text: &str) -> SpecHash {
    good(text).project.services.into_values().next().expect("a service").hash
}

pub(super) fn hash_with(text: &str, files: &[(&str, &str)]) -> SpecHash {
    let document = read_with(text, files).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
    document.project.services.into_values().next().expect("a service").hash
}

/// Problems as an owner would see them.
pub(super) fn shown(problems: &[Problem]) -> String {
    let one = |problem: &Problem| {
        let severity = format!("{:?}", problem.severity).to_lowercase();
        let mut text = format!("{severity}: {}: {}", problem.location, problem.message);
        for line in problem.snippet.iter().flat_map(|snippet| snippet.lines()) {
            text.push_str(&format!("\n  {line}"));
        }
        if let Some(hint) = &problem.hint {
            text.push_str(&format!("\n  = {hint}"));
        }
        text
    };
    problems.iter().map(one).collect::<Vec<_>>().join("\n")
}
