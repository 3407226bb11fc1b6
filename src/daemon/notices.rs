//! Events that are sent to others, as the configuration asks for.

use std::path::Path;
use std::sync::Arc;

use super::config::{Config, NoticeFile};
use crate::api::wire;
use crate::host::LinuxHost;
use crate::image::read_private;
use crate::model::sentence;
use crate::notice::{Headers, Hook, Notices, url};
use crate::reconcile::view::Event;

/// Begins to deliver. Within a tokio runtime.
pub(super) fn start(config: &Config) -> Result<Notices, String> {
    let hooks: Result<Vec<Hook>, String> = config.file.notices.iter().map(hook).collect();
    Ok(Notices::start(hooks?))
}

/// Has the status say what it must of notices.
pub(super) async fn show(notices: Notices, host: Arc<LinuxHost>) {
    loop {
        notices.changed().await;
        host.noted();
    }
}

/// Never waits.
pub(super) fn tell(notices: &Notices, event: &Event) {
    notices.tell(event.kind, || serde_json::to_vec(&wire::Event::from(event)).unwrap_or_default());
}

fn hook(file: &NoticeFile) -> Result<Hook, String> {
    let url = url(&file.url).map_err(|error| format!("a notice's url: {error}"))?;
    let headers: Headers = match file.headers_file.clone() {
        Some(path) => Arc::new(move || headers(&path)),
        None => Arc::new(|| Ok(Vec::new())),
    };
    Ok(Hook { url, kinds: file.events.clone(), headers })
}

fn headers(path: &Path) -> Result<Vec<(String, String)>, String> {
    let bytes = read_private(path).map_err(|error| sentence(&error))?;
    let bytes = bytes.ok_or_else(|| format!("{} is not there", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    // What a line holds is told nowhere.
    lines.map(|line| pair(line).ok_or_else(|| format!("{} has a line without a colon", path.display()))).collect()
}
