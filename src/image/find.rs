//! From what a person writes to an image: a name, a digest, or the beginning of one.

use std::collections::{BTreeMap, BTreeSet};

use super::Images;
use super::error::line;
use super::refs::Known;
use crate::model::{Digest, ImageReference, ReferenceError};

/// Fewer digits are a typing error rather than a digest.
const SHORTEST: usize = 4;
/// As many names are told as fit on a line or two.
const TOLD: usize = 5;

/// An image that a text means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name it was found by; none if it was found by digest.
    pub image: Option<ImageReference>,
    /// Its manifest.
    pub digest: Digest,
}

/// Why a text means no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// Nothing of that name or digest.
    #[error("there is no image {text:?} here{}", told(near))]
    Unknown {
        /// What was asked for.
        text: String,
        /// Names that look alike.
        near: Vec<String>,
    },
    /// The digits are the beginning of several digests.
    #[error("{text:?} is the beginning of several images: {}; write more digits", matches.join(", "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// What it may be.
        matches: Vec<String>,
    },
}

fn told(near: &[String]) -> String {
    if near.is_empty() { "; pull or load it first".into() } else { format!("; there is {}", near.join(", ")) }
}

impl Images {
    /// Finds an image by its name, its manifest's digest, the digest of the index it was chosen from or of its
    /// configuration, or by at least four digits that begin one of them. A name comes before digits.
    pub fn find(&self, text: &str) -> Result<Found, FindError> {
        search(&self.known(), text, &self.inner.default_registry)
    }

    /// A name as a person writes it: without a registry, the default one is meant.
    pub fn name(&self, text: &str) -> Result<ImageReference, ReferenceError> {
        ImageReference::parse_in(text, &self.inner.default_registry)
    }
}

fn search(known: &BTreeMap<ImageReference, Known>, text: &str, default_registry: &str) -> Result<Found, FindError> {
    let name = ImageReference::parse_in(text, default_registry).ok();
    if let Some((image, known)) = name.as_ref().and_then(|name| known.get_key_value(name)) {
        return Ok(Found { image: Some(image.clone()), digest: known.present.digest.clone() });
    }
    if let Some(digest) = name.as_ref().and_then(|name| pinned(known, name)) {
        return Ok(Found { image: None, digest });
    }
    let matches = by_digits(known, text);
    let mut digests: BTreeSet<_> = matches.iter().map(|(digest, _)| *digest).collect();
    match (digests.pop_first(), digests.is_empty()) {
        (Some(digest), true) => Ok(Found { image: None, digest: digest.clone() }),
        (Some(_), false) => {
            let told = |(digest, name): &(&Digest, &ImageReference)| format!("{} ({name})", digest.short());
            Err(FindError::Ambiguous { text: line(text, 100), matches: matches.iter().take(TOLD).map(told).collect() })
        }
        (None, _) => Err(FindError::Unknown { text: line(text, 200), near: near(known, text) }),
    }
}

/// `repository@digest` where the repository has the digest under another name.
fn pinned(known: &BTreeMap<ImageReference, Known>, name: &ImageReference) -> Option<Digest> {
    let wanted = name.digest()?;
    let source = format!("{}/{}", name.registry(), name.repository());
    let fits = |(other, known): &(&ImageReference, &Known)| {
        let same = other.registry() == name.registry() && other.repository() == name.repository();
        (same || known.record.sources.contains(&source))
            && (known.present.digest == *wanted || known.present.top == *wanted)
    };
    known.iter().find(fits).map(|(_, known)| known.present.digest.clone())
}

fn by_digits<'k>(known: &'k BTreeMap<ImageReference, Known>, text: &str) -> Vec<(&'k Digest, &'k ImageReference)> {
    let (algorithm, digits) =
        text.split_once(':').map_or((None, text), |(algorithm, digits)| (Some(algorithm), digits));
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() < SHORTEST || !digits.bytes().all(hex) {
        return Vec::new();
    }
    let begins = |digest: &Digest| {
        algorithm.is_none_or(|algorithm| algorithm == digest.algorithm()) && digest.hex().starts_with(digits)
    };
    let any = |known: &Known| [&known.present.digest, &known.present.top, &known.config].into_iter().any(begins);
    known.iter().filter(|(_, known)| any(known)).map(|(name, known)| (&known.present.digest, name)).collect()
}

/// Names that a person may have meant: other tags of the repository, parts of names, slips of the finger.
fn near(known: &BTreeMap<ImageReference, Known>, text: &str) -> Vec<String> {
    let lower: String = text.to_ascii_lowercase().chars().take(200).collect();
    let wanted = lower.rsplit('/').next().unwrap_or_default();
    let wanted = wanted.split(['@', ':']).next().unwrap_or_default();
    let mut ranked: Vec<(usize, String)> = known
        .iter()
        .filter(|(_, known)| !known.record.untagged)
        .filter_map(|(name, _)| {
            let last = name.repository().rsplit('/').next().unwrap_or_default();
            let distance = if !wanted.is_empty() && (last.contains(wanted) || wanted.contains(last)) {
                usize::from(last != wanted)
            } else {
                slips(last, wanted)
            };
            (distance <= 2).then(|| (distance, name.to_string()))
        })
        .collect();
    ranked.sort();
    ranked.into_iter().take(TOLD).map(|(_, name)| name).collect()
}

/// Letters to add, drop or change from one word to the other.
fn slips(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (place, other) in to.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[place + 1];
            row[place + 1] = change.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::super::refs::{Origin, RefRecord};
    use super::*;

    fn known(images: &[(&str, char, char)]) -> BTreeMap<ImageReference, Known> {
        let digest = |c: char| format!("sha256:{}{}", c.to_string().repeat(8), "0".repeat(56));
        let one = |(name, manifest, config): &(&str, char, char)| {
            let record = RefRecord {
                reference: (*name).into(),
                manifest: digest(*manifest),
                top: digest(*manifest),
                config: digest(*config),
                platform: "linux/amd64".into(),
                bytes: 1,
                pulled_at_ms: 0,
                checked_at_ms: 0,
                layers: vec![],
                pinned: false,
                last_used_ms: None,
                sources: vec![],
                origin: Origin::Pulled,
                untagged: false,
            };
            (ImageReference::parse(name).unwrap(), Known::try_from(record).unwrap())
        };
        images.iter().map(one).collect()
    }

    #[test]
    fn names_digests_and_their_beginnings_are_found() {
        let known =
            known(&[("nginx:1", 'a', '1'), ("nginx:2", 'b', '2'), ("ghcr.io/x/web", 'a', '1'), ("aaaa", 'c', '3')]);
        let found = |text: &str| {
            search(&known, text, "docker.io").map(|f| f.digest.hex()[..1].to_owned()).unwrap_or("-".into())
        };
        assert_eq!(found("nginx:1"), "a");
        assert_eq!(found("ghcr.io/x/web:latest"), "a");
        assert_eq!(found("aaaa"), "c", "a name comes before digits");
        assert_eq!(found("aaaaa"), "a", "two names of one image are one image");
        assert_eq!(found("sha256:aaaa"), "a");
        assert_eq!(found("2222"), "b", "by its configuration");
        assert_eq!(found("222"), "-");
        let full = format!("sha256:bbbbbbbb{}", "0".repeat(56));
        assert_eq!(found(&full), "b");
        assert_eq!(found(&format!("nginx@{full}")), "b");
        assert_eq!(found(&format!("redis@{full}")), "-");
        let of = |registry: &str, text: &str| search(&known, text, registry).is_ok();
        assert!(of("ghcr.io", "x/web") && !of("docker.io", "x/web"));
        assert!(of("ghcr.io", "docker.io/nginx:1") && !of("ghcr.io", "nginx:1"));
    }

    #[test]
    fn the_refusals_name_what_there_is() {
        let all = known(&[("nginx:1", 'a', '1'), ("redis", 'a', '2')]);
        let mut ambiguous = known(&[("nginx:1", 'a', '1'), ("redis", 'b', '1')]);
        let text = |known: &_, text: &str| search(known, text, "docker.io").unwrap_err().to_string();
        assert_eq!(text(&all, "ngnix"), "there is no image \"ngnix\" here; there is docker.io/library/nginx:1");
        assert_eq!(text(&all, "nginx:3"), "there is no image \"nginx:3\" here; there is docker.io/library/nginx:1");
        assert_eq!(text(&all, "postgres"), "there is no image \"postgres\" here; pull or load it first");
        assert_eq!(
            text(&ambiguous, "1111"),
            "\"1111\" is the beginning of several images: aaaaaaaa0000 (docker.io/library/nginx:1), bbbbbbbb0000 (docker.io/library/redis:latest); write more digits"
        );
        ambiguous.clear();
        assert!(text(&ambiguous, "a\u{1b}[2J").find('\u{1b}').is_none());
    }
}
