//! `security_opt`: each of its options by `=` or by `:`, as Docker takes both.

use std::path::Path;

use serde::de::IgnoredAny;

use super::nearest::nearest;
use super::scope::Scope;
use super::source_text::Span;
use crate::model::{Ability, Seccomp};

const KEY: &str = "security_opt";
const OPTIONS: [&str; 5] = ["no-new-privileges", "seccomp", "apparmor", "label", "systempaths"];

/// What the options say; nothing of what was not given.
#[derive(Default)]
pub(super) struct Security {
    pub(super) no_new_privileges: Option<bool>,
    pub(super) seccomp: Seccomp,
    pub(super) apparmor: Option<String>,
    pub(super) labels: Vec<String>,
    pub(super) unmasked: bool,
}

pub(super) fn read(scope: &mut Scope<'_, '_, '_>) -> Security {
    let mut security = Security::default();
    for (text, at) in scope.texts(KEY) {
        let split = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, value) = split.map_or((text, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("no-new-privileges", value) => security.no_new_privileges = no_new_privileges(value, at, scope),
            ("seccomp", Some(value)) if !value.is_empty() => security.seccomp = seccomp(value, at, scope),
            ("apparmor", Some(value)) if !value.is_empty() => security.apparmor = Some(apparmor(value, at, scope)),
            ("label", Some(value)) if !value.is_empty() => security.labels.extend(label(value, at, scope)),
            ("systempaths", Some("unconfined")) => {
                scope.loosen(at, KEY, "nothing of /proc and /sys is masked or read-only (systempaths=unconfined)");
                security.unmasked = true;
            }
            ("writable-cgroups", Some("false")) => {}
            ("writable-cgroups", Some("true")) => {
                let why = "its cgroups are read-only, and a service that manages them would fail";
                scope.hold(at, KEY, why, "remove `writable-cgroups`");
            }
            _ => unknown(text, name, at, scope),
        }
    }
    security
}

fn unknown(text: &str, name: &str, at: Span, scope: &mut Scope<'_, '_, '_>) {
    let all = "no-new-privileges, seccomp=…, apparmor=…, label=…, systempaths=unconfined";
    let known = OPTIONS.contains(&name);
    let near = OPTIONS
        .into_iter()
        .find(|option| nearest(&name.replace('-', "_"), [option.replace('-', "_").as_str()]).is_some());
    let hint = match near.filter(|_| !known) {
        Some(near) => format!("did you mean `{near}`? it may be {all}"),
        None => format!("it may be {all}"),
    };
    scope.error(at, KEY, format!("{text:?} is not a security option"), &hint);
}

fn no_new_privileges(value: Option<&str>, at: Span, scope: &mut Scope<'_, '_, '_>) -> Option<bool> {
    match value {
        None | Some("true") => Some(true),
        Some("false") => {
            scope.loosen(
                at,
                KEY,
                "programs with the set-user-id bit gain by it, whatever is configured (no-new-privileges:false)",
            );
            Some(false)
        }
        Some(other) => {
            let message = format!("no-new-privileges is {other:?}: expected true or false");
            scope.error(at, KEY, message, "write `no-new-privileges:true`");
            None
        }
    }
}

/// `unconfined`, `builtin`, or a file whose content is part of the service.
fn seccomp(value: &str, at: Span, scope: &mut Scope<'_, '_, '_>) -> Seccomp {
    match value {
        "builtin" => return Seccomp::Default,
        "unconfined" => {
            scope.loosen(at, KEY, "all system calls are allowed (seccomp=unconfined)");
            return Seccomp::Unconfined;
        }
        _ => {}
    }
    let key = scope.full(KEY);
    let Some(bytes) = scope.reader.file(Path::new(value), true, at, &key) else { return Seccomp::Default };
    match profile(bytes) {
        Ok(text) => {
            scope.loosen(at, KEY, format!("the system calls of its own profile are allowed (seccomp={value})"));
            Seccomp::Profile(text)
        }
        Err(fault) => {
            let message = format!("the seccomp profile {value:?} is not used: {fault}");
            scope.error(at, KEY, message, "it is JSON in the format of Docker's default profile");
            Seccomp::Default
        }
    }
}

/// Only its syntax is looked at here: what it means is known to those who load it.
fn profile(bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    match serde_json::from_str::<IgnoredAny>(&text) {
        Ok(_) if text.trim_start().starts_with('{') => Ok(text),
        Ok(_) => Err("it is not a JSON object".to_owned()),
        // The words of a syntax error hold nothing of the file.
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let words = error.to_string();
            let what = words.split(" at line ").next().unwrap_or_default();
            Err(format!("line {line}, column {column}: {what}"))
        }
    }
}

fn apparmor(value: &str, at: Span, scope: &mut Scope<'_, '_, '_>) -> String {
    if !graphic(value) {
        let hint = "write `unconfined`, or the name of a profile that the host has loaded";
        scope.error(at, KEY, format!("{value:?} is not the name of an AppArmor profile"), hint);
    } else if value == "unconfined" {
        scope.loosen(at, KEY, "AppArmor does not confine it (apparmor=unconfined)");
    } else {
        scope.wish(KEY, Ability::AppArmor);
    }
    value.to_owned()
}

/// `disable`, or a part of an SELinux label.
fn label(value: &str, at: Span, scope: &mut Scope<'_, '_, '_>) -> Option<String> {
    let split = value.split_once(':').or_else(|| value.split_once('='));
    match split {
        None if value == "disable" => scope.loosen(at, KEY, "SELinux does not confine it (label=disable)"),
        Some(("user" | "role" | "type" | "level", part)) if graphic(part) => scope.wish(KEY, Ability::SeLinux),
        _ => {
            let hint = "write label=disable, or label=user:…, role:…, type:… or level:…";
            scope.error(at, KEY, format!("{value:?} is not a part of a label"), hint);
            return None;
        }
    }
    Some(split.map_or_else(|| value.to_owned(), |(name, part)| format!("{name}:{part}")))
}

fn graphic(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::profile;

    #[test]
    fn a_profile_is_json_and_its_faults_are_told_by_their_place() {
        let fault = |text: &str| profile(text.as_bytes().to_vec()).err();
        assert_eq!(fault(" {\"defaultAction\": \"SCMP_ACT_ERRNO\"}"), None);
        assert_eq!(fault("{\n \"a\": }").as_deref(), Some("line 2, column 7: expected value"));
        assert_eq!(fault("{\"a\": 1").as_deref(), Some("line 1, column 7: EOF while parsing an object"));
        assert_eq!(fault("[\"secret\"]").as_deref(), Some("it is not a JSON object"));
        assert_eq!(profile(vec![0xff]).err().as_deref(), Some("it is not UTF-8"));
        assert!(fault(&"[".repeat(100_000)).is_some(), "deeper than any profile");
    }
}
