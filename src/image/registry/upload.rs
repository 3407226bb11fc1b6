//! One blob on its way to a registry (distribution-spec, "Pushing blobs"): in chunks that can be resumed, or in one piece
//! where a registry wants no chunks.
//!
//! ```text
//! HEAD: there? ── POST ?mount&from: mounted? ── PATCH, PATCH, … ── PUT ?digest
//!                                                 └ cut: GET, how far are you? ── PATCH the rest
//! ```
//! The registry compares the digest at the end, so a wrong blob never comes to be.

use hyper::body::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::attempts::Tries;
use super::error::{RegistryError, Said};
use super::place::{Ask, Payload};
use super::session::Session;
use crate::image::manifest::Descriptor;
use crate::model::Digest;

/// Bytes of one request.
pub(in crate::image) const CHUNK: usize = 8 << 20;
/// A registry may want larger chunks (`OCI-Chunk-Min-Length`), up to this.
const LARGEST_CHUNK: usize = 64 << 20;

/// What a registry says to a blob that it is offered.
pub(in crate::image) enum Offer<'a> {
    /// It took it over from another repository.
    Mounted,
    /// It wants the bytes.
    Wanted(Upload<'a>),
}

/// How a chunk went.
pub(in crate::image) enum Sent {
    /// The registry has it.
    Taken,
    /// The upload is no longer known, or stands somewhere else: begin anew.
    Lost(RegistryError),
    /// This registry wants the blob in one piece.
    Whole,
}

/// An upload that was begun.
pub(in crate::image) struct Upload<'a> {
    session: &'a Session<'a>,
    /// Where to go on; a new one with each answer.
    location: String,
    /// Bytes that the registry has.
    at: u64,
    tries: Tries<'a>,
    /// Bytes that a chunk should have.
    pub(in crate::image) chunk: usize,
}

impl<'a> Session<'a> {
    /// Whether the registry has the blob.
    pub(in crate::image) async fn has(&self, of: &Descriptor) -> Result<bool, RegistryError> {
        let mut ask = Ask::new(Method::HEAD, format!("blobs/{}", of.digest));
        ask.also = &[StatusCode::NOT_FOUND];
        Ok(self.request(&ask).await?.status() == StatusCode::OK)
    }

    /// Offers a blob, for a mount from the repository `from` where there is one.
    pub(in crate::image) async fn offer(
        &'a self,
        digest: &Digest,
        from: Option<&str>,
    ) -> Result<Offer<'a>, RegistryError> {
        let path = match from {
            Some(from) => format!("blobs/uploads/?mount={digest}&from={from}"),
            None => "blobs/uploads/".to_owned(),
        };
        let mut ask = Ask::new(Method::POST, path);
        ask.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let response = self.request(&ask).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(Offer::Mounted);
        }
        let least = response.headers().get("oci-chunk-min-length").and_then(|v| v.to_str().ok()?.parse().ok());
        let chunk = least.unwrap_or(CHUNK).clamp(CHUNK, LARGEST_CHUNK);
        let location = self.location(&response)?;
        Ok(Offer::Wanted(Upload { session: self, location, at: 0, tries: self.tries(), chunk }))
    }

    /// Stores a manifest under a tag or its digest, byte for byte.
    pub(in crate::image) async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: Bytes,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let mut ask = Ask::new(Method::PUT, format!("manifests/{name}"));
        ask.headers.extend(HeaderValue::from_str(media_type).ok().map(|kind| (CONTENT_TYPE, kind)));
        ask.body = Payload::Bytes(bytes);
        let response = self.request(&ask).await?;
        match response.headers().get("docker-content-digest").and_then(|v| v.to_str().ok()) {
            Some(told) if told != digest.as_str() => {
                Err(self.wrong_digest(digest, crate::image::error::line(told, 150)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Upload<'_> {
    /// Sends the next bytes. What was cut off goes on where the registry says it stands.
    pub(in crate::image) async fn patch(&mut self, bytes: &Bytes) -> Result<Sent, RegistryError> {
        let (begin, end) = (self.at, self.at + bytes.len() as u64);
        while self.at < end {
            let rest = bytes.slice(usize::try_from(self.at - begin).unwrap_or(bytes.len())..);
            let mut ask = Ask::new(Method::PATCH, &self.location);
            ask.headers = octets();
            let range = HeaderValue::from_str(&format!("{}-{}", self.at, end - 1));
            ask.headers.extend(range.ok().map(|range| (CONTENT_RANGE, range)));
            ask.headers.insert(CONTENT_LENGTH, HeaderValue::from(rest.len()));
            ask.body = crate::image::feed::body(rest);
            ask.also = &[StatusCode::RANGE_NOT_SATISFIABLE];
            let error = match self.session.once(&ask).await {
                Ok(response) if response.status() != StatusCode::RANGE_NOT_SATISFIABLE => {
                    self.location = self.session.location(&response)?;
                    self.at = end;
                    self.tries.moved();
                    break;
                }
                Ok(response) => self.session.unexpected(response.status()),
                Err(error) if begin == 0 && wants_whole(&error) => return Ok(Sent::Whole),
                Err(error @ RegistryError::Unknown { .. }) => return Ok(Sent::Lost(error)),
                Err(error) => {
                    self.tries.again(error).await?;
                    self.session.broken_off()
                }
            };
            match self.ask_where(begin, end).await? {
                Some(at) => {
                    if at > self.at {
                        self.tries.moved();
                    }
                    self.at = at;
                }
                None => return Ok(Sent::Lost(error)),
            }
        }
        Ok(Sent::Taken)
    }

    /// How many bytes the registry has; none where the upload cannot go on from there.
    async fn ask_where(&mut self, begin: u64, end: u64) -> Result<Option<u64>, RegistryError> {
        let ask = Ask::get(&self.location);
        let response = match self.session.request(&ask).await {
            Ok(response) => response,
            Err(error) if error.permanent() => return Ok(None),
            Err(error) => return Err(error),
        };
        let last = response.headers().get(RANGE).and_then(|v| v.to_str().ok()).and_then(last);
        if let Ok(location) = self.session.location(&response) {
            self.location = location;
        }
        // `0-0` is what registries say both for one byte and for none.
        let at = match last {
            Some(0) | None if begin == 0 => 0,
            Some(last) => last + 1,
            None => return Ok(None),
        };
        Ok((begin..=end).contains(&at).then_some(at))
    }

    /// Says that this was all. The registry compares the digest.
    pub(in crate::image) async fn finish(self, digest: &Digest) -> Result<(), RegistryError> {
        let mut ask = Ask::new(Method::PUT, with_digest(&self.location, digest));
        ask.headers = octets();
        ask.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        self.close(&ask).await
    }

    /// Sends all of it in one request.
    pub(in crate::image) async fn whole(self, digest: &Digest, size: u64, body: Payload) -> Result<(), RegistryError> {
        let mut ask = Ask::new(Method::PUT, with_digest(&self.location, digest));
        ask.headers = octets();
        ask.headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        ask.body = body;
        self.close(&ask).await
    }

    async fn close(&self, ask: &Ask) -> Result<(), RegistryError> {
        let response = self.session.once(ask).await?;
        created(self.session, &response)
    }

    /// Tells the registry that nothing more will come. It forgets by itself, later, where it does not listen.
    pub(in crate::image) async fn abandon(self) {
        let _ = self.session.once(&Ask::new(Method::DELETE, &self.location)).await;
    }
}

fn created(session: &Session<'_>, response: &Response) -> Result<(), RegistryError> {
    if response.status() == StatusCode::CREATED || response.status() == StatusCode::NO_CONTENT {
        return Ok(());
    }
    Err(session.unexpected(response.status()))
}

fn octets() -> HeaderMap {
    let kind: (HeaderName, _) = (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    HeaderMap::from_iter([kind])
}

/// Answers of registries that know no chunks.
fn wants_whole(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Unexpected { status: 400 | 405 | 411 | 415 | 501, .. })
}

/// The last byte that a registry has, out of `0-N` (some write `bytes=0-N`).
fn last(text: &str) -> Option<u64> {
    text.trim().trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()
}

/// An upload's address with the digest; what it asks already stays.
fn with_digest(location: &str, digest: &Digest) -> String {
    let sign = if location.contains('?') { '&' } else { '?' };
    format!("{location}{sign}digest={digest}")
}

impl Session<'_> {
    /// It wants a blob in one piece, and then does not.
    pub(in crate::image) fn unusable(&self) -> RegistryError {
        let reason = "it takes a blob neither in chunks nor in one piece".to_owned();
        RegistryError::Setup { registry: self.host().to_owned(), reason }
    }
    fn unexpected(&self, status: StatusCode) -> RegistryError {
        RegistryError::Unexpected { registry: self.host().to_owned(), status: status.as_u16(), said: Said::default() }
    }
    fn broken_off(&self) -> RegistryError {
        let reason = "an upload broke off, and it does not say how far it got".to_owned();
        RegistryError::Setup { registry: self.host().to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_forms_are_read_and_written() {
        for (text, expected) in
            [("0-99", Some(99)), ("bytes=0-7", Some(7)), ("0-0", Some(0)), ("5-9", None), ("", None)]
        {
            assert_eq!(last(text), expected, "{text}");
        }
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        assert_eq!(with_digest("http://r/u/1", &digest), format!("http://r/u/1?digest={digest}"));
        assert_eq!(with_digest("http://r/u/1?_state=x", &digest), format!("http://r/u/1?_state=x&digest={digest}"));
    }
}
