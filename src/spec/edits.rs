//! What changed between two versions of a state file, service by service, key by key, with the line where it stands now.
//!
//! Compared is what was written, before variables are put in: a value that comes from `.env` is told by the variable's name. No
//! value of an environment, a secret, a config or a driver's option is told, nor one whose key or text looks like a password.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::dotenv::{self, Format};
use super::node::{Key, Node, Scalar, Value};
use super::source_text::Source;
use super::tree;
use crate::model::{Edit, EditChange, Project, Service, ServiceName};

/// Values longer than this are told without them.
const LONGEST: usize = 120;
/// More changes than this are counted only.
const MOST: usize = 40;

/// One version of a state file.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a> {
    /// Its text.
    pub text: &'a str,
    /// What it refers to; none where it was missing.
    pub references: &'a [(PathBuf, Option<Vec<u8>>)],
    /// What it says.
    pub project: &'a Project,
}

/// What changed for each service that is not what it was. A service that is new says only so.
#[must_use]
pub fn edits(path: &Path, before: Version<'_>, now: Version<'_>) -> BTreeMap<ServiceName, Vec<Edit>> {
    let (old, new) = (read(path, before.text), read(path, now.text));
    let around = around(path, old.as_ref(), new.as_ref());
    let referred = referred(before, now, [old.as_ref(), new.as_ref()]);
    let mut all = BTreeMap::new();
    for (name, service) in &now.project.services {
        let (is, line) = place(new.as_ref(), name);
        let Some(old_service) = before.project.services.get(name) else {
            let key = "service".to_owned();
            all.insert(name.clone(), vec![Edit { file: path.to_owned(), line, key, change: EditChange::Added(None) }]);
            continue;
        };
        let mut found = Found { file: path, edits: Vec::new() };
        if let (Some(was), Some(is)) = (place(old.as_ref(), name).0, is) {
            found.compare("", line, was, is);
        }
        let other = acts(old_service) != acts(service);
        found.edits.extend(around.iter().filter(|edit| is.is_some_and(|is| concerns(edit, is, other))).cloned());
        if other {
            let (was, is) = (&old_service.image, &service.image);
            if was != is && !found.edits.iter().any(|edit| edit.key == "image") {
                let told = |image: &Option<_>| image.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
                let line = is_at(new.as_ref(), name, "image").unwrap_or(line);
                found.add(line, "image", EditChange::Changed { values: Some((told(was), told(is))) });
            }
            found.edits.extend(referred.iter().cloned());
            if found.edits.is_empty() {
                found.add(line, "what it refers to", EditChange::Changed { values: None });
            }
        }
        if !found.edits.is_empty() {
            all.insert(name.clone(), bounded(found.edits));
        }
    }
    all
}

/// The line of a service in the text of its file; 0 where it is not there.
#[must_use]
pub fn line(path: &Path, text: &str, service: &ServiceName) -> u32 {
    place(read(path, text).as_ref(), service).1
}

/// The service without the places of what it says.
#[must_use]
pub fn acts(service: &Service) -> Service {
    Service { loosenings: Vec::new(), wishes: Vec::new(), holds: Vec::new(), ..service.clone() }
}

fn bounded(mut edits: Vec<Edit>) -> Vec<Edit> {
    if edits.len() > MOST {
        let more = edits.len() - MOST;
        edits.truncate(MOST);
        if let Some(last) = edits.last().cloned() {
            edits.push(Edit {
                line: 0,
                key: format!("{more} more keys"),
                change: EditChange::Changed { values: None },
                ..last
            });
        }
    }
    edits
}

fn read(path: &Path, text: &str) -> Option<Node> {
    let source = Source::read(path, text.as_bytes()).ok()?;
    tree::read(&source).ok()
}

fn place<'n>(tree: Option<&'n Node>, name: &ServiceName) -> (Option<&'n Node>, u32) {
    let found = tree.and_then(|tree| tree.given("services")).and_then(|services| services.entry(name.as_str()));
    found.map_or((None, 0), |(key, node)| (Some(node), key.at.line))
}

/// Whether a change beside the services is about this one: a definition that it names, or anything else where it acts otherwise.
fn concerns(edit: &Edit, service: &Node, other: bool) -> bool {
    let mut parts = edit.key.split('.');
    match (parts.next().unwrap_or_default(), parts.next()) {
        ("networks", Some("default")) if service.given("networks").is_none() => service.given("network_mode").is_none(),
        ("networks" | "volumes" | "configs" | "secrets", Some(name)) => mentions(service, name),
        _ => other,
    }
}

fn mentions(node: &Node, name: &str) -> bool {
    let named = |text: &str| text.split(':').next() == Some(name);
    match &node.value {
        Value::Scalar(scalar) => named(&scalar.text),
        Value::List(items) => items.iter().any(|item| mentions(item, name)),
        Value::Map(entries) => entries.iter().any(|(key, node)| named(&key.text) || mentions(node, name)),
    }
}

fn is_at(tree: Option<&Node>, name: &ServiceName, key: &str) -> Option<u32> {
    place(tree, name).0?.entry(key).map(|(key, _)| key.at.line)
}

/// What changed beside the services, by its key from the top.
fn around(path: &Path, old: Option<&Node>, new: Option<&Node>) -> Vec<Edit> {
    let (Some(old), Some(new)) = (old, new) else { return Vec::new() };
    let mut found = Found { file: path, edits: Vec::new() };
    found.maps("", 0, &without_services(old), &without_services(new));
    found.edits
}

fn without_services(node: &Node) -> Vec<(Key, Node)> {
    // Extensions act only where an anchor brings them into a service.
    let other = |(key, _): &&(Key, Node)| key.text != "services" && !key.text.starts_with("x-");
    node.entries().iter().filter(other).cloned().collect()
}

/// Files that hold something else than before; of an environment's file the names of what changed in it.
fn referred(before: Version<'_>, now: Version<'_>, trees: [Option<&Node>; 2]) -> Vec<Edit> {
    let content =
        |version: Version<'_>| -> BTreeMap<PathBuf, Option<Vec<u8>>> { version.references.iter().cloned().collect() };
    let (old, new) = (content(before), content(now));
    let environments = environment_files(&trees);
    let mut edits = Vec::new();
    for path in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let (was, is) = (old.get(path).cloned().flatten(), new.get(path).cloned().flatten());
        let change = match (&was, &is) {
            (was, is) if was == is => continue,
            (None, _) => EditChange::Added(None),
            (_, None) => EditChange::Removed(None),
            (Some(_), Some(_)) => EditChange::Changed { values: None },
        };
        let names =
            if environments.contains(&plain(path)) { changed_names(was.as_deref(), is.as_deref()) } else { Vec::new() };
        let key = if names.is_empty() { "content".to_owned() } else { names.join(", ") };
        edits.push(Edit { file: path.clone(), line: 0, key, change });
    }
    edits
}

fn plain(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.strip_prefix("./").unwrap_or(&text).to_owned()
}

/// `.env` and the files of `env_file`, without those that are secrets.
fn environment_files(trees: &[Option<&Node>; 2]) -> BTreeSet<String> {
    let mut files = BTreeSet::from([".env".to_owned()]);
    let mut hidden = BTreeSet::new();
    for tree in trees.iter().flatten() {
        for (_, service) in tree.given("services").map(Node::entries).unwrap_or_default() {
            let Some(given) = service.given("env_file") else { continue };
            let each = given
                .items()
                .iter()
                .chain([given])
                .flat_map(|item| [item.text(), item.given("path").and_then(Node::text)]);
            files.extend(each.flatten().map(|text| plain(Path::new(text))));
        }
        for top in ["secrets", "configs"] {
            let entries = tree.given(top).map(Node::entries).unwrap_or_default();
            let paths = entries.iter().filter_map(|(_, node)| node.given("file").and_then(Node::text));
            hidden.extend(paths.map(|text| plain(Path::new(text))));
        }
    }
    files.difference(&hidden).cloned().collect()
}

fn changed_names(was: Option<&[u8]>, is: Option<&[u8]>) -> Vec<String> {
    let variables = |bytes: Option<&[u8]>| -> Option<BTreeMap<String, Option<String>>> {
        let lines = dotenv::read(bytes.unwrap_or_default(), Format::Compose, &|_| None).ok()?;
        Some(lines.lines.into_iter().map(|line| (line.name, line.value)).collect())
    };
    let (Some(was), Some(is)) = (variables(was), variables(is)) else { return Vec::new() };
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let changed = names.into_iter().filter(|name| was.get(*name) != is.get(*name) && is_name(name));
    changed.take(MOST).cloned().collect()
}

/// What no variable is called is perhaps a piece of a value.
fn is_name(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

struct Found<'p> {
    file: &'p Path,
    edits: Vec<Edit>,
}

impl Found<'_> {
    fn add(&mut self, line: u32, key: &str, change: EditChange) {
        self.edits.push(Edit { file: self.file.to_owned(), line, key: key.to_owned(), change });
    }

    fn compare(&mut self, key: &str, line: u32, was: &Node, is: &Node) {
        let named = by_name(key);
        let (old, new) = (entries(was, named), entries(is, named));
        match (old, new) {
            (Some(old), Some(new)) => self.maps(key, line, &old, &new),
            _ if written(was) == written(is) => {}
            _ => {
                let values = Some((told(was), told(is))).filter(|(was, is)| shown(key, was) && shown(key, is));
                self.add(line, key, EditChange::Changed { values });
            }
        }
    }

    fn maps(&mut self, above: &str, line: u32, old: &[(Key, Node)], new: &[(Key, Node)]) {
        let below = |key: &Key| if above.is_empty() { key.text.clone() } else { format!("{above}.{}", key.text) };
        let find = |all: &[(Key, Node)], key: &Key| all.iter().position(|(other, _)| other.text == key.text);
        for (key, is) in new {
            let name = below(key);
            match find(old, key) {
                Some(at) => self.compare(&name, key.at.line, &old[at].1, is),
                None => {
                    let value = told(is);
                    self.add(key.at.line, &name, EditChange::Added(Some(value).filter(|value| shown(&name, value))));
                }
            }
        }
        for (key, was) in old.iter().filter(|(key, _)| find(new, key).is_none()) {
            let (name, value) = (below(key), told(was));
            self.add(line, &name, EditChange::Removed(Some(value).filter(|value| shown(&name, value))));
        }
    }
}

/// Lists of `NAME=value` are maps in another spelling.
fn by_name(key: &str) -> bool {
    ["environment", "labels", "annotations", "args"].contains(&key.rsplit('.').next().unwrap_or(key))
}

fn entries(node: &Node, named: bool) -> Option<Vec<(Key, Node)>> {
    match &node.value {
        Value::Map(entries) => Some(entries.clone()),
        Value::List(items) if named => items.iter().map(pair).collect(),
        Value::List(_) | Value::Scalar(_) => None,
    }
}

/// `NAME=value` as an entry of a map; a name alone has no value.
fn pair(item: &Node) -> Option<(Key, Node)> {
    let (name, value) = item.text().map(|text| text.split_once('=').unwrap_or((text, "")))?;
    let key = Key { at: item.at, text: name.to_owned() };
    Some((key, Node { at: item.at, value: Value::Scalar(Scalar::quoted(value.to_owned())) }))
}

/// What is there, whole, to be compared.
fn written(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) => format!("{:?}", scalar.text),
        Value::List(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let each: BTreeMap<&str, String> =
                entries.iter().map(|(key, node)| (key.text.as_str(), written(node))).collect();
            format!("{each:?}")
        }
    }
}

/// What is there, for people.
fn told(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) if scalar.text.is_empty() => "\"\"".to_owned(),
        Value::Scalar(scalar) => scalar.text.clone(),
        Value::List(items) => format!("[{}]", items.iter().map(told).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let each = entries.iter().map(|(key, node)| format!("{}: {}", key.text, told(node)));
            format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Whether a value may be told.
fn shown(key: &str, value: &str) -> bool {
    const HIDDEN: [&str; 8] =
        ["environment", "secrets", "configs", "content", "driver_opts", "args", "credential_spec", "build"];
    const SUSPECT: [&str; 9] =
        ["passw", "passphrase", "secret", "token", "credential", "api_key", "apikey", "private", "auth"];
    let suspect = |text: &str| {
        let text = text.to_ascii_lowercase();
        SUSPECT.iter().any(|word| text.contains(word))
    };
    let address = value.contains("://") && value.contains('@');
    !key.split('.').any(|part| HIDDEN.contains(&part))
        && !suspect(key)
        && !suspect(value)
        && !address
        && value.chars().count() <= LONGEST
        && !value.contains('\n')
}

#[cfg(test)]
mod tests {
    use super::super::samples::read_with;
    use super::*;

    fn told_of(old: (&str, &[(&str, &str)]), new: (&str, &[(&str, &str)])) -> String {
        let document = |(text, files): (&str, &[(&str, &str)])| read_with(text, files).expect(text);
        let kept = |(_, files): (&str, &[(&str, &str)])| -> Vec<(PathBuf, Option<Vec<u8>>)> {
            files.iter().map(|(path, text)| (PathBuf::from(path), Some(text.as_bytes().to_vec()))).collect()
        };
        let (before, now) = (document(old), document(new));
        let (old_files, new_files) = (kept(old), kept(new));
        let before = Version { text: old.0, references: &old_files, project: &before.project };
        let now = Version { text: new.0, references: &new_files, project: &now.project };
        let all = edits(Path::new("shop.yaml"), before, now);
        let lines = all.iter().flat_map(|(name, edits)| edits.iter().map(move |edit| format!("{name}  {edit}\n")));
        lines.collect()
    }

    #[test]
    fn keys_are_told_with_their_lines_and_what_was_there() {
        let old = "services:\n  web:\n    image: busybox:1.36\n    command: [httpd, -f]\n    restart: always\n    labels: {a: x}\n  db:\n    image: busybox\n";
        let new = "# one line more\nservices:\n  web:\n    image: busybox:1.37\n    command: [httpd, -f, -v]\n    labels:\n      - a=y\n    tty: true\n  db:\n    image: busybox\n  new:\n    image: busybox\n";
        insta::assert_snapshot!(told_of((old, &[]), (new, &[])), @r"
        new  shop.yaml:11:service added
        web  shop.yaml:4:image busybox:1.36 → busybox:1.37
        web  shop.yaml:5:command [httpd, -f] → [httpd, -f, -v]
        web  shop.yaml:7:labels.a x → y
        web  shop.yaml:8:tty added: true
        web  shop.yaml:3:restart removed: always
        ");
    }

    #[test]
    fn what_may_be_secret_is_told_by_its_name() {
        let file = |password: &str, env: &str| {
            format!(
                "services:\n  web:\n    image: busybox:${{TAG}}\n    env_file: web.env\n    environment:\n      MODE: {password}\n    command: [run, --password, {password}]\n    secrets: [key]\nsecrets:\n  key:\n    file: key.env\nx-other: {env}\n"
            )
        };
        let (old, new) = (file("hunter1", "hunter1"), file("hunter2", "hunter2"));
        let before = [(".env", "TAG=1.36\n"), ("web.env", "A=hunter1\nB=1\n"), ("key.env", "hunter1")];
        let now = [(".env", "TAG=1.37\n"), ("web.env", "A=hunter2\nB=1\n"), ("key.env", "hunter2")];
        let told = told_of((&old, &before), (&new, &now));
        assert!(!told.contains("hunter"), "{told}");
        insta::assert_snapshot!(told, @r"
        web  shop.yaml:6:environment.MODE changed
        web  shop.yaml:7:command changed
        web  shop.yaml:3:image docker.io/library/busybox:1.36 → docker.io/library/busybox:1.37
        web  .env:TAG changed
        web  key.env:content changed
        web  web.env:A changed
        ");
    }

    #[test]
    fn order_comments_and_other_spellings_are_no_change() {
        let old = "services:\n  web:\n    image: busybox\n    labels: {a: x, b: y}\n";
        let new = "services:\n  # a comment\n  web:\n    labels: {b: y, a: x}\n    image: busybox # another\n";
        assert_eq!(told_of((old, &[]), (new, &[])), "");
    }

    #[test]
    fn a_network_that_changed_is_told_of_whom_it_concerns() {
        let file = |internal| {
            format!(
                "services:\n  web:\n    image: busybox\n    networks: [back]\n  other:\n    image: busybox\n    network_mode: none\nnetworks:\n  back:\n    internal: {internal}\n"
            )
        };
        insta::assert_snapshot!(told_of((&file(false), &[]), (&file(true), &[])), @"web  shop.yaml:10:networks.back.internal false → true");
    }
}
