//! Tells others what happened: a POST with JSON for each event that a hook asks for.
//!
//! ```text
//! event ─ tell ─▶ queue (bounded: the oldest is dropped and counted) ─ one task for each hook ─▶ POST ─▶ taken, or tried again
//! ```
//! [`Notices::tell`] never waits. A hook has one notice on the way at a time, so they come in order; what cannot be delivered after
//! [`ATTEMPTS`] attempts is given up and counted. A redirect is a failure: what is sent is for the address that is configured. An
//! address may hold a token, so only its host is told anywhere.

mod queue;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::sync::Notify;

use crate::model::sentence;
use queue::Queue;
pub use queue::asks_for;

/// How often one notice is tried.
pub const ATTEMPTS: u32 = 6;
/// The pause after the first failure; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// A receiver has this long to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const AGENT: &str = concat!("longshore/", env!("CARGO_PKG_VERSION"));

/// Further headers of each request, read anew for each; why there are none, in words.
pub type Headers = Arc<dyn Fn() -> Result<Vec<(String, String)>, String> + Send + Sync>;

/// Where notices go, and which.
#[derive(Clone)]
pub struct Hook {
    /// http:// or https://
    pub url: Url,
    /// Kinds of events: `container.failed`, `container.*` or `*`.
    pub kinds: Vec<String>,
    /// Further headers.
    pub headers: Headers,
}

/// Why an address cannot be told anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No address.
    #[error("it is not an address")]
    Unreadable,
    /// Another protocol.
    #[error("it does not begin with https:// or http://")]
    Scheme,
    /// A login in the address ends up in logs.
    #[error("it holds a login; write it into the headers-file")]
    Login,
}

/// Reads an address that notices may go to.
pub fn url(text: &str) -> Result<Url, UrlError> {
    let url = Url::parse(text).map_err(|_| UrlError::Unreadable)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(UrlError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Login);
    }
    Ok(url)
}

/// All hooks. A clone is the same.
#[derive(Clone, Default)]
pub struct Notices {
    lines: Arc<Vec<Line>>,
    changed: Arc<Notify>,
}

struct Line {
    hook: Hook,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    queue: Queue,
    /// How many were given up.
    failed: u64,
    /// Why the last attempt failed; none once one succeeded.
    error: Option<String>,
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hooks", self.lines.len())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers and a queue; no change of them can be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: String, given_up: bool) {
        let mut state = self.state();
        state.error = Some(error);
        state.failed += u64::from(given_up);
    }
}

impl Notices {
    /// Begins to deliver. Within a tokio runtime.
    #[must_use]
    pub fn start(hooks: Vec<Hook>) -> Self {
        let changed = Arc::new(Notify::new());
        let lines: Vec<Line> = hooks.into_iter().map(|hook| Line { hook, shared: Arc::default() }).collect();
        for line in &lines {
            tokio::spawn(deliver(line.hook.clone(), Arc::clone(&line.shared), Arc::clone(&changed)));
        }
        Self { lines: Arc::new(lines), changed }
    }

    /// Tells everyone who asks for this kind. Never waits.
    pub fn tell(&self, kind: &str, body: impl FnOnce() -> Vec<u8>) {
        let concerned: Vec<&Line> = self.lines.iter().filter(|line| asks_for(&line.hook.kinds, kind)).collect();
        if concerned.is_empty() {
            return;
        }
        let body: Arc<[u8]> = body().into();
        for line in concerned {
            line.shared.state().queue.push(kind.to_owned(), Arc::clone(&body));
            line.shared.filled.notify_one();
        }
    }

    /// Resolves when [`Self::notes`] says something else. One waits.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What the owner should know: hooks that cannot be told, and what was lost.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.lines.iter().filter_map(|line| note(&line.hook, &line.shared.state())).collect()
    }
}

fn note(hook: &Hook, state: &State) -> Option<String> {
    let (failed, dropped) = (state.failed, state.queue.dropped());
    let lost = match (failed, dropped) {
        (0, 0) => String::new(),
        (failed, 0) => format!("; {failed} were given up"),
        (0, dropped) => format!("; {dropped} were dropped because too many waited"),
        (failed, dropped) => format!("; {failed} were given up, {dropped} dropped because too many waited"),
    };
    let place = place(&hook.url);
    match &state.error {
        Some(error) => Some(format!("notices to {place} do not arrive: {error}{lost}")),
        None if lost.is_empty() => None,
        None => Some(format!("notices to {place} arrive again{lost}")),
    }
}

/// The host alone.
fn place(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

async fn deliver(hook: Hook, shared: Arc<Shared>, changed: Arc<Notify>) {
    let client = client(&hook.url);
    loop {
        let next = shared.state().queue.pop();
        let Some(next) = next else {
            // A permit is kept where something was put in meanwhile.
            shared.filled.notified().await;
            continue;
        };
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let sent = match &client {
                Ok(client) => send(client, &hook, &next.kind, &next.body).await,
                Err(error) => Err(error.clone()),
            };
            let Err(error) = sent else {
                if shared.state().error.take().is_some() {
                    changed.notify_one();
                }
                break;
            };
            tracing::warn!(to = place(&hook.url), kind = next.kind, attempt, error, "a notice was not taken");
            let last = attempt == ATTEMPTS;
            shared.failed(error, last);
            changed.notify_one();
            if last {
                break;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

async fn send(client: &Client, hook: &Hook, kind: &str, body: &[u8]) -> Result<(), String> {
    let mut headers = HeaderMap::new();
    let read = Arc::clone(&hook.headers);
    let further = tokio::task::spawn_blocking(move || read()).await.map_err(|e| e.to_string())??;
    for (name, value) in further {
        let pair = name.parse::<HeaderName>().ok().zip(HeaderValue::from_str(&value).ok());
        // What it is called may be a piece of a token that was written in the wrong place.
        let (name, mut value) = pair.ok_or("a line of its headers-file is no header")?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert("longshore-event", kind);
    }
    let request = client.post(hook.url.clone()).headers(headers).body(body.to_vec());
    // Without the address: it may hold a token.
    let answer = request.send().await.map_err(|error| sentence(&error.without_url()))?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status())) }
}

fn client(url: &Url) -> Result<Client, String> {
    // The provider is one for the whole process; another room may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        let builder = Client::builder().user_agent(AGENT).timeout(PATIENCE).redirect(Policy::none());
        // Nothing on this machine is asked through a proxy.
        let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if here { builder.no_proxy() } else { builder }
    };
    match builder().build() {
        Err(_) if url.scheme() == "http" => builder().tls_certs_only([]).build(),
        built => built,
    }
    .map_err(|error| sentence(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_told_by_their_host_alone() {
        assert_eq!(url("ftp://a/b"), Err(UrlError::Scheme));
        assert_eq!(url("a/b"), Err(UrlError::Unreadable));
        assert_eq!(url("https://u:p@a/b"), Err(UrlError::Login));
        assert_eq!(place(&url("https://hooks.lan:8443/T0/secret?x=y").unwrap()), "https://hooks.lan:8443");
        assert_eq!(place(&url("http://[::1]/x").unwrap()), "http://[::1]");
    }

    #[test]
    fn what_is_wrong_with_a_hook_is_a_note() {
        let hook = Hook {
            url: url("https://a/secret").unwrap(),
            kinds: vec!["*".into()],
            headers: Arc::new(|| Ok(Vec::new())),
        };
        let mut state = State::default();
        assert_eq!(note(&hook, &state), None);
        state.error = Some("it answered 500 Internal Server Error".to_owned());
        state.failed = 2;
        let told = "notices to https://a do not arrive: it answered 500 Internal Server Error; 2 were given up";
        assert_eq!(note(&hook, &state).as_deref(), Some(told));
        state.error = None;
        assert_eq!(note(&hook, &state).as_deref(), Some("notices to https://a arrive again; 2 were given up"));
    }
}
