//! The keys about notices.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{Said, check_secret};
use crate::notice;

/// Where events are sent to, each as a POST with JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NoticeFile {
    /// The address, https:// or http://. It is told nowhere but its host: it may hold a token.
    pub url: String,
    /// Which events: names as in `longshore events`, `container.*` for all that begin so, or `*`
    pub events: Vec<String>,
    /// A file with further headers (`Authorization: Bearer …`), one on a line; readable by its owner only
    #[serde(default)]
    pub headers_file: Option<PathBuf>,
}

/// The beginnings of all events.
const KINDS: [&str; 8] = ["container", "daemon", "disk", "file", "firewall", "folder", "image", "network"];

pub(super) fn check(said: &mut Said<'_>, notices: &[NoticeFile]) {
    for (at, notice) in notices.iter().enumerate() {
        let number = at.to_string();
        let way = |key: &'static str| ["notices", &number, key].map(str::to_owned);
        let mut wrong = |key: &'static str, message: String, hint: &str| {
            let way = way(key);
            said.wrong(&way.each_ref().map(String::as_str), message, hint);
        };
        if let Err(why) = notice::url(&notice.url) {
            // The address may hold a token; it is not repeated.
            wrong("url", format!("the url is not where notices can go: {why}"), "write https://host[:port]/path");
        }
        if notice.events.is_empty() {
            wrong("events", "no event is asked for".to_owned(), "write container.failed, container.* or *");
        }
        let known = |event: &&String| {
            *event == "*"
                || event.split_once('.').is_some_and(|(first, rest)| KINDS.contains(&first) && !rest.is_empty())
        };
        if let Some(event) = notice.events.iter().find(|event| !known(event)) {
            let hint = "write container.failed, container.* or *; `longshore events` shows the names";
            wrong("events", format!("{event:?} is not a kind of events"), hint);
        }
        match &notice.headers_file {
            Some(file) if file.is_relative() => {
                wrong("headers-file", "headers-file is a relative path".to_owned(), "begin it with /");
            }
            Some(file) => check_secret(said, &["notices", &number, "headers-file"], file),
            None => {}
        }
    }
}
