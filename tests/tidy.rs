//! Keeps the arrows between the rooms, the purity of the pure rooms, and the size of the house, so that nobody has to remember.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which rooms a room may know. A room that is not listed may not exist.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("spec", &["model"]),
    ("plan", &["model"]),
    ("source", &["model", "spec"]),
    ("reconcile", &["model", "spec", "plan", "source"]),
    ("untar", &[]),
    ("tree", &["untar"]),
    ("image", &["model", "untar"]),
    ("rootfs", &["model"]),
    ("logs", &["model"]),
    ("network", &["model"]),
    ("volume", &["model", "untar"]),
    ("secret", &[]),
    ("notice", &["model"]),
    ("container", &["model", "rootfs", "logs", "tree"]),
    ("shim", &["model", "container", "rootfs", "logs", "network"]),
    ("runtime", &["model", "container", "rootfs", "tree", "volume"]),
    ("store", &["model"]),
    (
        "host",
        &[
            "model",
            "plan",
            "reconcile",
            "source",
            "image",
            "rootfs",
            "container",
            "network",
            "volume",
            "logs",
            "store",
            "runtime",
        ],
    ),
    ("api", &["model", "reconcile"]),
    ("cli", &["model", "api", "secret", "tree"]),
    ("daemon", &["*"]),
];

/// Words that would make a pure room impure.
const PURE: &[(&str, &[&str])] = &[
    ("model", &["std::fs", "std::env", "SystemTime", "Instant", "tokio", "serde", "std::process"]),
    ("plan", &["std::fs", "SystemTime", "Instant", "tokio", "serde", "std::process", "rand"]),
    ("spec", &["std::fs", "std::env", "SystemTime", "Instant", "tokio", "std::process"]),
];

fn sources() -> BTreeMap<PathBuf, String> {
    fn walk(dir: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.insert(path.clone(), std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

fn room(path: &Path) -> Option<String> {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    (below.components().count() > 1)
        .then(|| below.components().next().unwrap().as_os_str().to_str().unwrap().to_owned())
}

/// Files that are compiled for tests only may read the clock and the disk.
fn for_tests(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "tests" || c.as_os_str() == "tests.rs")
        || path.ends_with("plan/histories.rs")
}

/// The code without comments and without the tests at the end of the file.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_arrows_go_one_way() {
    let mut wrong = BTreeSet::new();
    for (path, text) in sources() {
        let Some(from) = room(&path) else { continue };
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == from) else {
            panic!("the room {from} is not in the house's plan");
        };
        let code = code(&text);
        for (to, _) in ARROWS.iter().filter(|(to, _)| *to != from && !allowed.contains(to) && !allowed.contains(&"*")) {
            let direct = code.contains(&format!("crate::{to}::")) || code.contains(&format!("crate::{to};"));
            let grouped = code.split("use crate::{").skip(1).any(|rest| {
                rest.split('}').next().unwrap().split(',').any(|part| part.trim().split("::").next() == Some(*to))
            });
            if direct || grouped {
                wrong.insert(format!("{from} -> {to} in {}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that must not be: {wrong:#?}");
}

#[test]
fn pure_rooms_stay_pure() {
    let mut wrong = BTreeSet::new();
    for (path, text) in sources() {
        let words = room(&path).and_then(|room| PURE.iter().find(|(name, _)| *name == room)).map(|(_, words)| *words);
        for word in words.unwrap_or_default() {
            if code(&text).contains(word) && !for_tests(path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap()) {
                wrong.insert(format!("{word} in {}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "pure rooms know of the world: {wrong:#?}");
}

#[test]
fn only_the_store_names_its_database() {
    for (path, text) in sources() {
        let inside = room(&path).as_deref() == Some("store");
        assert!(inside || !code(&text).contains("sled::"), "{} names sled", path.display());
    }
}

#[test]
fn no_file_grows_out_of_hand() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines; it has more than one job", path.display());
    }
}

#[test]
fn nothing_is_left_undone() {
    for (path, text) in sources() {
        for word in ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "#[allow(", "#[ignore"] {
            assert!(!text.contains(word), "{word} in {}", path.display());
        }
    }
}
