//! What runs in a container of the service: `entrypoint`, `command` and their surroundings.

use super::check::path;
use super::environment;
use super::node::{Node, Value};
use super::project::Reader;
use super::words;
use crate::model::Process;

pub(super) fn read(service: &Node, key: &str, reader: &mut Reader<'_, '_>) -> Process {
    Process {
        entrypoint: command(service, "entrypoint", key, reader),
        command: command(service, "command", key, reader),
        environment: environment::read(service, key, reader),
        working_dir: working_dir(service, key, reader),
        user: user(service, key, reader),
        tty: flag(service, "tty"),
        stdin_open: flag(service, "stdin_open"),
        init: flag(service, "init"),
    }
}

pub(super) fn flag(service: &Node, name: &str) -> bool {
    service.given(name).and_then(Node::truth).unwrap_or(false)
}

/// Nothing leaves the image's own in force, an empty list or text replaces it by nothing (compose-spec, "command").
fn command(service: &Node, name: &str, key: &str, reader: &mut Reader<'_, '_>) -> Option<Vec<String>> {
    let node = service.given(name)?;
    if let Value::List(items) = &node.value {
        return Some(items.iter().filter_map(Node::text).map(str::to_owned).collect());
    }
    match words::split(node.text().unwrap_or_default()) {
        Ok(words) => Some(words),
        Err(fault) => {
            let message = format!("this is not a command line: {fault}");
            reader.report.error(node.at, &path(key, name), message).hint("write it as a list to avoid quoting");
            None
        }
    }
}

fn working_dir(service: &Node, key: &str, reader: &mut Reader<'_, '_>) -> Option<String> {
    let node = service.given("working_dir")?;
    let text = node.text().filter(|text| !text.is_empty())?;
    if !text.starts_with('/') {
        let message = format!("the working directory {text:?} is not absolute");
        reader.report.error(node.at, &path(key, "working_dir"), message).hint("begin it with `/`");
    }
    Some(text.to_owned())
}

/// `name|uid[:group|gid]`; whether they exist is known only inside the image.
fn user(service: &Node, key: &str, reader: &mut Reader<'_, '_>) -> Option<String> {
    let node = service.given("user")?;
    let text = node.text().filter(|text| !text.is_empty())?;
    let good = match text.split_once(':') {
        Some((user, group)) => is_user_or_group(user) && is_user_or_group(group),
        None => is_user_or_group(text),
    };
    if !good {
        let message = format!("{text:?} is not a user");
        let hint = "write a name or a number, and after a colon a group: `app`, `1000`, `1000:1000`";
        reader.report.error(node.at, &path(key, "user"), message).hint(hint);
    }
    Some(text.to_owned())
}

/// A name or a number of a user or a group.
pub(super) fn is_user_or_group(text: &str) -> bool {
    let named = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '$' | '@' | '\\'));
    let number = text.bytes().all(|b| b.is_ascii_digit());
    !text.is_empty()
        && !text.starts_with('-')
        && named
        && (!number || text.parse::<u32>().is_ok_and(|id| id < u32::MAX))
}
