//! Long work as lines.
//!
//! ```text
//! work ─▶ a line when something changed, one each few seconds else ─▶ done | error ─▶ what is left of an upload ─▶ end
//! ```
//!
//! Dropping the stream, as happens when the client goes away, drops the work.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use futures_util::stream::{self, Fuse, Stream, StreamExt as _};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::{ByteStream, Findings, Job};
use crate::api::error::ApiError;
use crate::api::wire::{ImageProgress, ImageStep};

/// How often what is under way is looked at.
const TICK: Duration = Duration::from_millis(200);
/// A client that hears nothing for longer may think that nobody is there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A client that still sends when the answer is known has this long to read it.
const LINGER: Duration = Duration::from_secs(5);

/// The answer that tells how the work goes on. `upload` is what the work reads from.
pub(super) fn lines<T: Serialize + Send + 'static>(job: Job<T>, upload: Option<Upload>) -> Response {
    lines_with(job, stream::pending().boxed(), upload)
}

/// The same with what is found on the way.
pub(super) fn lines_with<T>(job: Job<T>, findings: Findings, upload: Option<Upload>) -> Response
where
    T: Serialize + Send + 'static,
{
    let work = Box::new(Work { job, findings: findings.fuse(), said: None, at: Instant::now(), upload });
    let body = Body::from_stream(stream::unfold(Some(Stage::Works(work)), next));
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

enum Stage<T> {
    Works(Box<Work<T>>),
    /// All is said.
    Lingers(Option<Upload>),
}

struct Work<T> {
    job: Job<T>,
    findings: Fuse<Findings>,
    said: Option<ImageProgress>,
    at: Instant,
    upload: Option<Upload>,
}

type Next<T> = Option<(io::Result<Bytes>, Option<Stage<T>>)>;

async fn next<T: Serialize>(stage: Option<Stage<T>>) -> Next<T> {
    match stage? {
        Stage::Works(work) => work.line().await,
        Stage::Lingers(upload) => {
            if let Some(upload) = upload {
                // Closing while the client sends would take the last line away from it. A client that goes on for longer
                // than this, or fails, gets no more.
                let _ = timeout(LINGER, upload.stream().for_each(|_| async {})).await;
            }
            None
        }
    }
}

impl<T: Serialize> Work<T> {
    async fn line(mut self: Box<Self>) -> Next<T> {
        loop {
            // All arms may be dropped: the work stays where it is, and the tick begins anew.
            let outcome = tokio::select! {
                biased;
                Some(finding) = self.findings.next() => {
                    self.at = Instant::now();
                    return Some((encode::<T>([ImageStep::Finding(finding)]), Some(Stage::Works(self))));
                }
                outcome = &mut self.job.outcome => Some(outcome),
                () = sleep(TICK) => None,
            };
            let progress = (self.job.progress)();
            let news = self.said.as_ref() != Some(&progress);
            if let Some(outcome) = outcome {
                let last = match outcome {
                    Ok(done) => ImageStep::Done(done),
                    Err(refusal) => ImageStep::Error(ApiError::from(refusal).body().error),
                };
                let mut lines = Vec::new();
                while let Some(Some(finding)) = self.findings.next().now_or_never() {
                    lines.push(ImageStep::Finding(finding));
                }
                // How it was in the end comes before the end, for those who show it.
                lines.extend(news.then_some(ImageStep::Progress(progress)));
                lines.push(last);
                return Some((encode(lines), Some(Stage::Lingers(self.upload))));
            }
            if news || self.at.elapsed() >= KEEP_ALIVE {
                self.at = Instant::now();
                self.said = Some(progress.clone());
                return Some((encode::<T>([ImageStep::Progress(progress)]), Some(Stage::Works(self))));
            }
        }
    }
}

fn encode<T: Serialize>(steps: impl IntoIterator<Item = ImageStep<T>>) -> io::Result<Bytes> {
    let mut lines = Vec::new();
    for step in steps {
        serde_json::to_writer(&mut lines, &step)?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}

/// A request's body, which the work reads and which is emptied once the work has enough of it.
pub(in crate::api) struct Upload(Arc<Mutex<Option<BodyDataStream>>>);

impl Upload {
    pub(in crate::api) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body.into_data_stream()))))
    }
    /// One reads at a time; each byte comes once.
    pub(in crate::api) fn stream(&self) -> ByteStream {
        Upload(Arc::clone(&self.0)).boxed()
    }
}

impl Stream for Upload {
    type Item = io::Result<Bytes>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stream) = body.as_mut() else { return Poll::Ready(None) };
        let item = std::task::ready!(Pin::new(stream).poll_next(cx));
        if !matches!(item, Some(Ok(_))) {
            // Nothing may be asked of a body that ended.
            *body = None;
        }
        Poll::Ready(item.map(|bytes| bytes.map_err(io::Error::other)))
    }
}
