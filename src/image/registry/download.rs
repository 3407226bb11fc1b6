//! A blob on its way, over broken connections, silences and from mirror to mirror: always the next bytes, in order.
//!
//! Who reads hashes what comes; a part from elsewhere that does not fit shows in the digest.

use hyper::body::Bytes;
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::attempts::Tries;
use super::error::{RegistryError, Said};
use super::http::content_range;
use super::place::{Ask, Place};
use super::session::Session;
use crate::image::error::line;
use crate::image::manifest::Descriptor;

/// A download that goes on until its last byte, or until there is no sense in it.
pub(in crate::image) struct Download<'a> {
    session: &'a Session<'a>,
    of: &'a Descriptor,
    /// Bytes that the reader has.
    at: u64,
    open: Option<Open>,
    place: usize,
    tries: Tries<'a>,
    /// Places whose bytes the reader has.
    used: Vec<usize>,
    /// Whether the bytes are of more than one answer.
    seams: bool,
}

struct Open {
    response: Response,
    /// Bytes to pass over, because the registry began before what was asked for.
    skip: u64,
}

impl<'a> Download<'a> {
    /// The bytes of a blob behind the first `at`, which the reader has already.
    pub(super) fn new(session: &'a Session<'a>, of: &'a Descriptor, at: u64) -> Self {
        let tries = session.tries();
        Self { session, of, at, open: None, place: 0, tries, used: Vec::new(), seams: at > 0 }
    }

    /// The next bytes; none after the last one that the descriptor promises.
    pub(in crate::image) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if self.at == self.of.size && self.open.is_none() {
                return Ok(None);
            }
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.begin().await? {
                    Some(open) => open,
                    None => continue,
                },
            };
            let place = self.session.place(self.place);
            let piece = open.response.chunk().await;
            match piece {
                Ok(Some(bytes)) => {
                    let skipped = open.skip.min(bytes.len() as u64);
                    open.skip -= skipped;
                    self.open = Some(open);
                    let bytes = bytes.slice(usize::try_from(skipped).unwrap_or(bytes.len())..);
                    if !bytes.is_empty() {
                        return self.take(bytes).map(Some);
                    }
                }
                Ok(None) if self.at == self.of.size => return Ok(None),
                Ok(None) => {
                    let (registry, digest) = (place.host.clone(), self.of.digest.clone());
                    let error = RegistryError::Early { registry, digest, expected: self.of.size, got: self.at };
                    self.failed(error).await?;
                }
                Err(error) => {
                    let error = place.broken(error, &self.session.settings().timeouts);
                    self.failed(error).await?;
                }
            }
        }
    }

    /// Whether the bytes came in parts, so that a wrong digest may be healed by fetching all of it anew.
    pub(in crate::image) fn seams(&self) -> bool {
        self.seams
    }

    /// Asks no mirror again whose bytes are in here; whether there was one.
    pub(in crate::image) fn blame(&self, error: &RegistryError) -> bool {
        let mut any = false;
        for place in self.used.iter().map(|at| self.session.place(*at)).filter(|place| place.mirror) {
            self.session.pass_over(place, error, true);
            any = true;
        }
        any
    }

    fn take(&mut self, bytes: Bytes) -> Result<Bytes, RegistryError> {
        self.at += bytes.len() as u64;
        if self.at > self.of.size {
            let place = self.session.place(self.place);
            return Err(self.session.all(place.wrong_size(&self.of.digest, self.of.size, self.at)));
        }
        self.tries.moved();
        if self.used.last() != Some(&self.place) {
            self.used.push(self.place);
        }
        Ok(bytes)
    }

    /// Waits for the next attempt, goes to the next place, or gives up.
    async fn failed(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        let place = self.session.place(self.place);
        self.seams |= self.at > 0;
        let mirror = place.mirror;
        match self.tries.again(error).await {
            Ok(()) => Ok(()),
            Err(error) if mirror => {
                self.session.pass_over(place, &error, !matches!(error, RegistryError::Unknown { .. }));
                self.tries = self.session.tries();
                self.place += 1;
                Ok(())
            }
            Err(error) => Err(self.session.all(error)),
        }
    }

    /// An answer that holds the next byte; none where it has to be asked again.
    async fn begin(&mut self) -> Result<Option<Open>, RegistryError> {
        let place = self.session.place(self.place);
        if place.mirror && place.is_out() {
            self.place += 1;
            return Ok(None);
        }
        let exchange = self.session.settings().timeouts.exchange;
        let asked = timeout(exchange, self.ask(place)).await.unwrap_or_else(|_| Err(place.silent(exchange)));
        match asked {
            Ok(open) => {
                self.session.progress().from(&place.host);
                Ok(Some(open))
            }
            // A mirror that does not even answer is not waited for.
            Err(error) if place.mirror => {
                self.session.pass_over(place, &error, !matches!(error, RegistryError::Unknown { .. }));
                self.place += 1;
                Ok(None)
            }
            Err(error) => self.failed(error).await.map(|()| None),
        }
    }

    async fn ask(&self, place: &Place) -> Result<Open, RegistryError> {
        let mut ask = Ask::get(format!("blobs/{}", self.of.digest));
        if self.at > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.at));
            ask.headers.extend(range.ok().map(|range| (RANGE, range)));
            ask.also = &[StatusCode::RANGE_NOT_SATISFIABLE];
        }
        let response = self.exchange(place, &ask).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if self.at > 0 => self.part(place, response),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                // It does not do parts, or says so of a blob that is shorter; the whole tells.
                let ask = Ask::get(format!("blobs/{}", self.of.digest));
                let response = self.exchange(place, &ask).await?;
                self.whole(place, response)
            }
            _ => self.whole(place, response),
        }
    }

    async fn exchange(&self, place: &Place, ask: &Ask) -> Result<Response, RegistryError> {
        let sent = place.send(ask, self.session.settings(), self.session.progress()).await;
        sent.map_err(|error| match error {
            RegistryError::Unknown { registry, .. } if !place.mirror => {
                RegistryError::Incomplete { registry, digest: self.of.digest.clone() }
            }
            other => other,
        })
    }

    fn whole(&self, place: &Place, response: Response) -> Result<Open, RegistryError> {
        if response.status() != StatusCode::OK {
            let (registry, status) = (place.host.clone(), response.status().as_u16());
            return Err(RegistryError::Unexpected { registry, status, said: Said::default() });
        }
        match response.content_length() {
            Some(length) if length != self.of.size => Err(place.wrong_size(&self.of.digest, self.of.size, length)),
            Some(_) | None => Ok(Open { response, skip: self.at }),
        }
    }

    fn part(&self, place: &Place, response: Response) -> Result<Open, RegistryError> {
        match content_range(response.headers()) {
            Some((first, last, all))
                if first == self.at && last < self.of.size && all.is_none_or(|all| all == self.of.size) =>
            {
                Ok(Open { response, skip: 0 })
            }
            _ => {
                let told = response.headers().get(CONTENT_RANGE).map(|v| String::from_utf8_lossy(v.as_bytes()));
                let said = Said(line(&told.unwrap_or("no Content-Range".into()), 100));
                let (registry, digest) = (place.host.clone(), self.of.digest.clone());
                Err(RegistryError::WrongRange { registry, digest, from: self.at, said })
            }
        }
    }
}
