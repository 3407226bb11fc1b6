//! `volumes` of the file.

use std::collections::BTreeMap;

use super::super::check::path;
use super::super::environment;
use super::super::nearest::nearest;
use super::super::node::{Key, Node};
use super::super::project::Reader;
use super::super::scope::{MAX_HOLDS, Scope};
use super::ours::{self, Ours};
use super::{KEY, place};
use crate::model::{Hold, ProjectName, Volume, VolumeName};

const DRIVER: &str = "driver";
const OPTIONS: &str = "driver_opts";
const KNOWN: [&str; 3] = ["type", "o", "device"];
/// More than one host has use for.
const MAX_VOLUMES: usize = 1000;

/// The volumes that services may name, and what the file says of the mounts of all services.
#[derive(Debug)]
pub(in crate::spec) struct Definitions {
    volumes: BTreeMap<String, Definition>,
    pub(super) everywhere: Ours,
}

/// One volume of the file.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) volume: Volume,
    /// Why it is not made as it is written.
    pub(super) faults: Vec<Hold>,
}

impl Definitions {
    pub(in crate::spec) fn read(root: &Node, project: &ProjectName, reader: &mut Reader<'_, '_>) -> Self {
        let given = root.given(KEY).map(Node::entries).unwrap_or_default();
        if let Some((key, _)) = given.get(MAX_VOLUMES) {
            reader.report.error(key.at, KEY, format!("a file may have at most {MAX_VOLUMES} volumes"));
        }
        let mut volumes = BTreeMap::new();
        let mut outside: BTreeMap<VolumeName, (&str, Volume)> = BTreeMap::new();
        for (key, body) in given.iter().take(MAX_VOLUMES) {
            let Some(definition) = definition(key, body, project, reader) else { continue };
            let volume = &definition.volume;
            let (first, known) =
                outside.entry(volume.name.clone()).or_insert_with(|| (key.text.as_str(), volume.clone()));
            if known != volume {
                let message = format!(
                    "the volumes {first:?} and {:?} are both {} outside of the project, and differ",
                    key.text, volume.name
                );
                let noted = reader.report.error(key.at, &path(KEY, &key.text), message);
                noted.hint("remove one of them, or give it another `name:`");
            }
            volumes.insert(key.text.clone(), definition);
        }
        Self { volumes, everywhere: ours::read(root, "", reader) }
    }

    pub(super) fn find(&self, key: &str) -> Option<&Definition> {
        self.volumes.get(key)
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Definition)> {
        self.volumes.iter().map(|(key, definition)| (key.as_str(), definition))
    }
    pub(super) fn nearest(&self, key: &str) -> Option<&str> {
        nearest(key, self.volumes.keys().map(String::as_str))
    }
}

fn definition(key: &Key, body: &Node, project: &ProjectName, reader: &mut Reader<'_, '_>) -> Option<Definition> {
    let full = path(KEY, &key.text);
    let mut scope = Scope::new(body, &full, key.at, reader);
    let volume = match external(key, body, &mut scope) {
        Some(name) => Volume {
            name: name_of(&name, key, &mut scope)?,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            external: true,
        },
        None => {
            let name =
                scope.word("name").map_or_else(|| format!("{project}_{}", key.text), |(name, _)| name.to_owned());
            driver(&mut scope);
            Volume {
                name: name_of(&name, key, &mut scope)?,
                options: options(&mut scope),
                labels: environment::labels(body, "labels"),
                external: false,
            }
        }
    };
    let mut faults = scope.finish().holds;
    faults.truncate(MAX_HOLDS);
    Some(Definition { volume, faults })
}

/// `external: true`, or the old form with the name inside: its name outside. Compose refuses whatever else is said of it.
fn external(key: &Key, body: &Node, scope: &mut Scope<'_, '_, '_>) -> Option<String> {
    let node = scope.given("external")?;
    let inside = node.given("name").and_then(Node::text).filter(|name| !name.is_empty());
    if inside.is_none() && node.truth() != Some(true) && node.entries().is_empty() {
        return None;
    }
    let beside = |name: &str| !matches!(name, "external" | "name") && !name.starts_with("x-");
    if let Some((other, _)) = body.entries().iter().find(|(other, value)| beside(&other.text) && !value.is_null()) {
        let message = format!("`{}` and `external` exclude each other", other.text);
        scope.error(other.at, &other.text, message, "an external volume is made elsewhere; remove one of them");
    }
    match (scope.word("name"), inside) {
        (Some((name, at)), Some(inside)) if name != inside => {
            let message = format!("the volume has two names outside: {inside:?} and {name:?}");
            scope.error(at, "name", message, "remove one of them");
            Some(name.to_owned())
        }
        (Some((name, _)), _) | (None, Some(name)) => Some(name.to_owned()),
        (None, None) => Some(key.text.clone()),
    }
}

fn name_of(name: &str, key: &Key, scope: &mut Scope<'_, '_, '_>) -> Option<VolumeName> {
    match VolumeName::parse(name) {
        Ok(name) => Some(name),
        Err(error) => {
            let at = scope.word("name").map_or(key.at, |(_, at)| at);
            scope.error(at, "name", error.to_string(), "write another `name:`");
            None
        }
    }
}

fn driver(scope: &mut Scope<'_, '_, '_>) {
    let Some((other, at)) = scope.word(DRIVER).filter(|(driver, _)| *driver != "local") else { return };
    let near = nearest(other, ["local"]).map_or("", |_| "did you mean `local`? ");
    let hint = format!("{near}the only one is `local`, which mounts what the kernel can: see `{OPTIONS}`");
    scope.stop(at, DRIVER, format!("the volume driver {other:?} is not supported"), &hint);
}

/// Docker's options of the driver `local`: what mount(8) would be told.
fn options(scope: &mut Scope<'_, '_, '_>) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    for (key, value) in scope.given(OPTIONS).map(Node::entries).unwrap_or_default() {
        let text = value.text().unwrap_or_default();
        if !KNOWN.contains(&key.text.as_str()) {
            let near = nearest(&key.text, KNOWN).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            let message = format!("the option {:?} of a volume is not known", key.text);
            scope.stop(key.at, OPTIONS, message, &format!("{near}it may be type, o or device"));
        } else if !text.is_empty() {
            options.insert(key.text.clone(), text.to_owned());
        }
    }
    if options.is_empty() {
        return options;
    }
    for needed in ["type", "device"] {
        if !options.contains_key(needed) {
            let hint = "a folder of the host is {type: none, o: bind, device: /srv/data}";
            scope.stop(scope.place(OPTIONS), OPTIONS, format!("the options of the volume lack `{needed}`"), hint);
        }
    }
    if let Some(device) = Volume::device_by(&options).and_then(|device| device.to_str()) {
        let at = scope.given(OPTIONS).and_then(|all| all.given("device")).map_or(scope.name_at(), |node| node.at);
        if !device.starts_with('/') || place::is_windows(device) {
            let message = format!("the device {device:?} of a volume is not an absolute path");
            let hint = "write an absolute path, or mount the folder without a volume: ./folder:/path";
            scope.stop(at, OPTIONS, message, hint);
        }
    }
    options
}
