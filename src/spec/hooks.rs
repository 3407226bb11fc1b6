//! `post_start`, `pre_stop`.

use super::node::{Node, Value};
use super::process;
use super::scope::Scope;
use crate::model::{Hook, Hooks};

pub(super) fn read(scope: &mut Scope<'_, '_, '_>) -> Hooks {
    Hooks { post_start: list("post_start", scope), pre_stop: list("pre_stop", scope) }
}

fn list(name: &str, scope: &mut Scope<'_, '_, '_>) -> Vec<Hook> {
    let Some(Node { value: Value::List(items), .. }) = scope.given(name) else { return Vec::new() };
    let each = items.iter().enumerate().filter_map(|(at, item)| hook(item, &format!("{name}[{at}]"), scope));
    each.collect()
}

fn hook(body: &Node, name: &str, scope: &mut Scope<'_, '_, '_>) -> Option<Hook> {
    let process = process::read(body, &scope.full(name), scope.reader);
    let privileged = process::flag(body, "privileged");
    if privileged {
        let what = "a hook is executed with all capabilities and without seccomp";
        scope.loosen(body.at, &format!("{name}.privileged"), what);
    }
    let command = process.command.filter(|command| !command.is_empty());
    if command.is_none() {
        scope.error(body.at, name, "the hook has no command", "write `command:` below it");
    }
    let (user, working_dir, environment) = (process.user, process.working_dir, process.environment);
    Some(Hook { command: command?, user, working_dir, environment, privileged })
}
