//! `on_change` of `x-longshore`: of one file, of a service, of all services.

use super::super::check::path;
use super::super::node::Node;
use super::super::project::Reader;
use crate::model::{OnChange, Signal};

const KEY: &str = "on_change";

/// Reads it from this map's extension; `key`: of the map, empty for the file's.
pub(super) fn read(above: &Node, key: &str, reader: &mut Reader<'_, '_>) -> Option<OnChange> {
    let (at, body) = above.entry("x-longshore")?;
    let full = path(&if key.is_empty() { at.text.clone() } else { format!("{key}.{}", at.text) }, KEY);
    let node = body.given(KEY)?;
    match node.text() {
        Some("recreate") => return Some(OnChange::Recreate),
        Some("restart") => return Some(OnChange::Restart),
        Some("update") => return Some(OnChange::Update),
        _ => {}
    }
    let Some(signal) = node.given("signal") else {
        let noted = reader.report.error(node.at, &full, format!("`{KEY}` names no signal"));
        noted.hint("write {signal: HUP}, or recreate, restart or update");
        return None;
    };
    let text = signal.text().unwrap_or_default();
    let parsed = Signal::parse(text).filter(|signal| !matches!(signal.name().as_str(), "SIGKILL" | "SIGSTOP"));
    match parsed {
        Some(signal) => Some(OnChange::Signal(signal)),
        None => {
            let message = format!("{text:?} is not a signal that a process can answer");
            reader.report.error(signal.at, &full, message).hint("write HUP, USR1 or another name");
            None
        }
    }
}
