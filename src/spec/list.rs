//! Every key with what it does here, for the manual. Made from the tables that read state files, so that the manual
//! cannot say anything else than they do.

use super::keys::{Effect, FILE, LONGSHORE, SERVICE, Shape, Table};

/// One key of a state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// The key, as a dotted path below the file or below a service.
    pub key: String,
    /// Whether it stands in a service; otherwise it stands beside `services`.
    pub in_service: bool,
    /// What it does here.
    pub role: KeyRole,
    /// What it is for.
    pub about: &'static str,
}

/// What a key does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRole {
    /// It is read and acted upon.
    Acts,
    /// It means nothing, by its specification.
    Ignored,
    /// A service that asks for it is not started. Why.
    Holds(&'static str),
    /// The service runs without it, with a warning. What that means.
    Warns(&'static str),
}

/// Held by code of their own rather than by the tables, because it depends on what stands beside them.
const BY_HAND: [(&str, &str); 2] = [
    ("include", "a part of the project is written elsewhere, and its services must not run without it"),
    ("build", "images are pulled, not built; with an `image` beside it, it is only a warning"),
];

/// Every key of a file and of a service, in the order of the tables. Parts of a key that decides as a whole are left out.
#[must_use]
pub fn keys() -> Vec<ListedKey> {
    let mut keys = Vec::new();
    add(&FILE, "", false, &mut keys);
    add(&SERVICE, "", true, &mut keys);
    keys
}

fn add(table: &'static Table, above: &str, in_service: bool, keys: &mut Vec<ListedKey>) {
    for rule in table.rules {
        let key = format!("{above}{}", rule.name);
        let by_hand = BY_HAND.iter().find(|(name, _)| *name == key).map(|(_, why)| KeyRole::Holds(why));
        let role = match (rule.effect, &rule.shape) {
            // It may stand in both places and is listed once.
            (Effect::Inside, Shape::Object(inner)) if inner.name == LONGSHORE.name && !in_service => continue,
            (Effect::Inside, Shape::Object(inner)) => {
                add(inner, &format!("{key}."), in_service, keys);
                continue;
            }
            (Effect::Acts, _) => KeyRole::Acts,
            (Effect::Nothing, _) => KeyRole::Ignored,
            (Effect::Holds(why, _), _) => KeyRole::Holds(why),
            (Effect::Warns(means), _) => KeyRole::Warns(means),
            (Effect::Part | Effect::Inside, _) => continue,
        };
        keys.push(ListedKey { key, in_service, role: by_hand.unwrap_or(role), about: rule.about });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_kinds_are_listed_once() {
        let keys = keys();
        let role =
            |name: &str| keys.iter().filter(|k| k.key == name && k.in_service).map(|k| k.role).collect::<Vec<_>>();
        assert_eq!(role("image"), [KeyRole::Acts]);
        assert_eq!(role("volumes"), [KeyRole::Acts]);
        assert_eq!(role("secrets"), [KeyRole::Acts]);
        assert!(matches!(role("build")[..], [KeyRole::Holds(_)]));
        assert!(matches!(role("logging")[..], [KeyRole::Warns(_)]));
        assert_eq!(role("deploy.resources.limits.memory"), [KeyRole::Acts]);
        assert_eq!(role("x-longshore.schedule"), [KeyRole::Acts]);
        assert_eq!(role("x-longshore.suspend"), [KeyRole::Acts]);
        assert_eq!(keys.iter().filter(|k| k.key.starts_with("x-longshore.")).count(), LONGSHORE.rules.len());
    }
}
