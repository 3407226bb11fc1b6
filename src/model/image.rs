//! What an image is called, and what it is.

use std::fmt;

/// A content digest, `sha256:<64 hex>` or `sha512:<128 hex>` (OCI image-spec, "Digests").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Parses and checks algorithm, length and alphabet.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let bad = || ReferenceError::Digest { text: text.chars().take(160).collect() };
        let (algorithm, hex) = text.split_once(':').ok_or_else(bad)?;
        let len = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err(bad()),
        };
        let ok = hex.len() == len && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if ok { Ok(Self(text.to_owned())) } else { Err(bad()) }
    }
    /// The whole text, `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// `sha256` or `sha512`.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').map_or("", |(a, _)| a)
    }
    /// The hex part.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, h)| h)
    }
    /// The first twelve hex digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or_else(|| self.hex())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not an image reference or digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was written.
    #[error("the image is empty")]
    Empty,
    /// Not `sha256:<64 hex>` or `sha512:<128 hex>`.
    #[error("{text:?} is not a digest; a digest is \"sha256:\" and 64 lower-case hex digits")]
    Digest { text: String },
    /// The registry part is not a host.
    #[error("{text:?} is not a registry; write host or host:port")]
    Registry { text: String },
    /// The repository part breaks the distribution-spec's grammar.
    #[error(
        "{text:?} is not a repository name; use lower-case letters, digits and single separators '.', '_', '__', '-', parts joined by '/'"
    )]
    Repository { text: String },
    /// The tag breaks the distribution-spec's grammar.
    #[error("{text:?} is not a tag; use up to 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'")]
    Tag { text: String },
    /// Longer than any registry accepts.
    #[error("the image reference has {len} characters; at most 512 are allowed")]
    TooLong { len: usize },
}

/// A full image reference. Docker's short forms are filled in when it is parsed
/// (`nginx` is `docker.io/library/nginx:latest`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// Parses a reference as Docker does: the first part is a registry if it holds a dot or a colon or is `localhost`.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        Self::parse_in(text, DOCKER_HUB)
    }
    /// Parses a reference; one that names no registry is of this one. Only at Docker Hub a name of one part is below `library/`.
    pub fn parse_in(text: &str, default_registry: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > 512 {
            return Err(ReferenceError::TooLong { len: text.len() });
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(name, default_registry);
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        check_registry(&registry)?;
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let repository = if registry == DOCKER_HUB && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        check_repository(&repository)?;
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { registry, repository, tag, digest })
    }
    /// Host and optional port, `docker.io` for Docker Hub.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }
    /// Repository below the registry, `library/nginx`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }
    /// The tag; none only where a digest alone was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
    /// The image of this digest in the same repository.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }
    /// What this tag stands for in the same repository; none where it is no tag.
    #[must_use]
    pub fn tagged(&self, tag: &str) -> Option<Self> {
        check_tag(tag).ok()?;
        Some(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }
    /// The pinned digest.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

const DOCKER_HUB: &str = "docker.io";

fn split_registry<'a>(name: &'a str, default_registry: &str) -> (String, &'a str) {
    let (registry, rest) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => (default_registry, name),
    };
    let hub = matches!(registry, "index.docker.io" | "registry-1.docker.io");
    (if hub { DOCKER_HUB } else { registry }.to_owned(), rest)
}

fn check_registry(text: &str) -> Result<(), ReferenceError> {
    let bad = || ReferenceError::Registry { text: text.to_owned() };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or_else(bad)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            ("v6", after)
        }
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    if let Some(port) = port.strip_prefix(':') {
        port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(bad)?;
    } else if !port.is_empty() {
        return Err(bad());
    }
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.split('.').all(label) { Ok(()) } else { Err(bad()) }
}

fn check_repository(text: &str) -> Result<(), ReferenceError> {
    let part = |p: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = p.as_bytes();
        let ends = bytes.first().is_some_and(|b| inner(*b)) && bytes.last().is_some_and(|b| inner(*b));
        let known = bytes.iter().all(|b| inner(*b) || matches!(b, b'.' | b'_' | b'-'));
        let separators = !["..", "___", "._", "_.", "-.", ".-", "_-", "-_"].iter().any(|s| p.contains(s));
        ends && known && separators
    };
    if text.len() <= 255 && text.split('/').all(part) {
        Ok(())
    } else {
        Err(ReferenceError::Repository { text: text.to_owned() })
    }
}

fn check_tag(text: &str) -> Result<(), ReferenceError> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest && text.len() <= 128 {
        Ok(())
    } else {
        Err(ReferenceError::Tag { text: text.chars().take(160).collect() })
    }
}

/// What a machine can run: `linux/amd64`, `linux/arm/v7` (OCI image-spec, "platform").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, …
    pub architecture: String,
    /// `v7`, `v8`, …
    pub variant: Option<String>,
}

impl Platform {
    /// Parses `os/architecture[/variant]`; architectures by the names that kernels give them too.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let part = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        let [os, architecture, rest @ ..] = parts.as_slice() else { return None };
        if rest.len() > 1 || !parts.iter().all(part) {
            return None;
        }
        let architecture = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        let variant = rest.first().map(|variant| variant.to_ascii_lowercase());
        Some(Self { os: os.to_ascii_lowercase(), architecture, variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |v| write!(f, "/{v}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_filled_in_as_docker_does() {
        let full = |t: &str| ImageReference::parse(t).map(|r| r.to_string());
        assert_eq!(full("nginx"), Ok("docker.io/library/nginx:latest".into()));
        assert_eq!(full("grafana/grafana:11"), Ok("docker.io/grafana/grafana:11".into()));
        assert_eq!(full("localhost/x"), Ok("localhost/x:latest".into()));
        assert_eq!(full("127.0.0.1:5000/test/busybox"), Ok("127.0.0.1:5000/test/busybox:latest".into()));
        assert_eq!(full("[::1]:5000/a"), Ok("[::1]:5000/a:latest".into()));
        assert_eq!(full("index.docker.io/a"), Ok("docker.io/library/a:latest".into()));
        let pinned = format!("ghcr.io/a/b@sha256:{}", "0".repeat(64));
        assert_eq!(full(&pinned), Ok(pinned));
    }

    #[test]
    fn names_without_a_registry_are_of_the_default_one() {
        let full = |t: &str, registry: &str| ImageReference::parse_in(t, registry).map(|r| r.to_string());
        assert_eq!(full("nginx", "r.example:5000"), Ok("r.example:5000/nginx:latest".into()));
        assert_eq!(full("a/b:1", "r.example:5000"), Ok("r.example:5000/a/b:1".into()));
        assert_eq!(full("docker.io/nginx", "r.example"), Ok("docker.io/library/nginx:latest".into()));
        assert_eq!(full("ghcr.io/a/b", "r.example"), Ok("ghcr.io/a/b:latest".into()));
        for hub in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            assert_eq!(full("nginx", hub), Ok("docker.io/library/nginx:latest".into()));
            assert_eq!(full(&format!("{hub}/a/b"), "r.example"), Ok("docker.io/a/b:latest".into()));
        }
        assert!(full("nginx", "not a host").is_err());
        // What was written in full once is read again as the same, whatever the default is now.
        for text in ["nginx", "a/b:2", "localhost/x"] {
            let written = full(text, "r.example").unwrap();
            assert_eq!(full(&written, "other.example"), Ok(written));
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for bad in [
            "",
            "UPPER",
            "a//b",
            "a/../b",
            "x:",
            "x:-t",
            "a b",
            "-a",
            "x@sha256:00",
            "x@md5:00",
            "a.b:99999/x",
            "a..b/c",
            "http://x/y",
            "x:é",
        ] {
            assert!(ImageReference::parse(bad).is_err(), "{bad:?}");
        }
    }
}
