//! A mount in one text: `[SOURCE:]TARGET[:OPTIONS]`.

use std::collections::BTreeMap;

use super::super::nearest::nearest;
use super::super::scope::Scope;
use super::super::source_text::Span;
use super::{Fault, KEY, What, Written, place};
use crate::model::{Propagation, Recursive, Relabel};

const FORMS: &str =
    "write /path, name:/path, ./folder:/path or /folder:/path, and after one more colon options such as ro";
const OPTIONS: [&str; 14] = [
    "ro",
    "rw",
    "z",
    "Z",
    "nocopy",
    "rshared",
    "rslave",
    "rprivate",
    "shared",
    "slave",
    "private",
    "cached",
    "delegated",
    "consistent",
];

pub(super) fn read<'s>(text: &'s str, at: Span, scope: &mut Scope<'_, '_, '_>) -> Option<Written<'s>> {
    let split = split(text).and_then(|(source, target, options)| Ok((source, target, Options::read(options)?)));
    let (source, target, options) = match split {
        Ok(parts) => parts,
        Err((message, hint)) => {
            scope.error(at, KEY, message, &hint);
            return None;
        }
    };
    let Options { read_only, label, propagation, no_copy } = options;
    let what = match source.filter(|source| is_path(source)) {
        Some(source) => {
            if no_copy {
                scope.warn(at, KEY, "`nocopy` has no effect on a folder of the host", "it is for volumes; remove it");
            }
            let propagation = propagation.unwrap_or_default();
            What::Bind { source, create: true, propagation, recursive: Recursive::Enabled, label }
        }
        None => {
            if label.is_some() {
                scope.warn(at, KEY, "volumes are not labelled (z, Z)", "it is for folders of the host; remove it");
            }
            if propagation.is_some() {
                let message = "the propagation of mounts is for folders of the host, not for volumes";
                scope.error(at, KEY, message, "remove the option");
            }
            What::Volume { source, subpath: None, no_copy, labels: BTreeMap::new() }
        }
    };
    Some(Written { at, target, read_only, owner: None, what })
}

/// As Compose tells a path from a name.
fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~'])
}

type Parts<'s> = (Option<&'s str>, &'s str, &'s str);

fn split(text: &str) -> Result<Parts<'_>, Fault> {
    let fault = |message: String, hint: &str| Err((message, hint.to_owned()));
    let parts: Vec<&str> = text.split(':').collect();
    let drive = matches!(parts[..], [letter, path, target, ..]
        if letter.len() == 1 && letter.as_bytes()[0].is_ascii_alphabetic() && path.starts_with('/') && target.starts_with('/'));
    if drive || place::is_windows(text) {
        return fault(
            format!("{text:?} holds a path of Windows"),
            "write a folder of this host, such as /srv/data or ./data",
        );
    }
    match parts[..] {
        [""] => fault("the mount is empty".to_owned(), FORMS),
        _ if parts.contains(&"") => fault(format!("{text:?} has an empty part"), FORMS),
        [target] => Ok((None, target, "")),
        [target, option] if target.starts_with('/') && OPTIONS.contains(&option) => fault(
            format!("{text:?} has no place in the container"),
            "write SOURCE:TARGET, or the long form for a volume without a name",
        ),
        [source, target] => Ok((Some(source), target, "")),
        [source, target, options] => Ok((Some(source), target, options)),
        _ => fault(
            format!("{text:?} has too many colons"),
            "a path with a colon needs the long form: type, source, target",
        ),
    }
}

#[derive(Default)]
struct Options {
    read_only: bool,
    label: Option<Relabel>,
    propagation: Option<Propagation>,
    no_copy: bool,
}

impl Options {
    fn read(text: &str) -> Result<Self, Fault> {
        let mut options = Self::default();
        let given: Vec<&str> = text.split(',').filter(|option| !option.is_empty()).collect();
        for option in &given {
            match *option {
                "ro" => options.read_only = true,
                "z" => options.label = Some(Relabel::Shared),
                "Z" => options.label = Some(Relabel::Private),
                "nocopy" => options.no_copy = true,
                "rw" | "cached" | "delegated" | "consistent" => {}
                other => match propagation(other) {
                    Some(propagation) => options.propagation = Some(propagation),
                    None => return Err((format!("{other:?} is not an option of a mount"), meant(other))),
                },
            }
        }
        let travels = |option: &&str| propagation(option).is_some();
        for group in [&|o: &&str| matches!(*o, "ro" | "rw"), &|o: &&str| matches!(*o, "z" | "Z"), &travels]
            as [&dyn Fn(&&str) -> bool; 3]
        {
            let mut those = given.iter().filter(|option| group(option));
            if let Some(first) = those.next()
                && let Some(other) = those.find(|other| *other != first)
            {
                return Err((
                    format!("the options {first} and {other} exclude each other"),
                    "remove one of them".to_owned(),
                ));
            }
        }
        Ok(options)
    }
}

/// A word for how mounts travel; those with `r` say it of mounts below too, as all do here.
pub(super) fn propagation(word: &str) -> Option<Propagation> {
    match word {
        "private" | "rprivate" => Some(Propagation::Private),
        "slave" | "rslave" => Some(Propagation::Slave),
        "shared" | "rshared" => Some(Propagation::Shared),
        _ => None,
    }
}

fn meant(option: &str) -> String {
    match option {
        "U" => "write `x-longshore: {idmap: {uid: …, gid: …}}` to see its files under other owners".to_owned(),
        _ => match nearest(option, OPTIONS).filter(|_| option.len() > 2) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it may be {}", OPTIONS.join(", ")),
        },
    }
}
