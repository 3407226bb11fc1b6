//! The file as a whole: its variables, its name and its services.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::check::{check, path};
use super::data;
use super::dotenv::{self, Format};
use super::effects;
use super::files;
use super::health;
use super::interpolate::{Lone, interpolate};
use super::keys::{FILE, LONGSHORE, Shape};
use super::network::{self, Definitions};
use super::node::{Key, Node, Value};
use super::profiles::{self, Chosen};
use super::report::Report;
use super::source_text::{MAX_BYTES, Source, Span};
use super::{Document, FileError, Files, Input, order, service, substitute, tree};
use crate::model::{
    Fingerprint, FingerprintKey, Hold, Location, Network, NetworkName, OnUnhealthy, Problem, Project, ProjectName,
    Service, ServiceName, Volume, VolumeName,
};

/// What a project is made of.
#[derive(Default)]
struct Parts {
    services: BTreeMap<ServiceName, Service>,
    unchosen: BTreeMap<ServiceName, Vec<String>>,
    networks: BTreeMap<NetworkName, Network>,
    volumes: BTreeMap<VolumeName, Volume>,
}

/// Far more than one host runs; it bounds what is told about one file.
const MAX_SERVICES: usize = 1000;

/// As many as an address has. A range is written in a few characters and read into as many ports as it has.
const MAX_PORTS: u32 = 65_535;

/// What the mounts of all services may take in memory: tens of thousands of them.
const MAX_MOUNT_BYTES: usize = 16 * 1024 * 1024;

/// What reading a service needs from around it.
pub(super) struct Reader<'r, 'a> {
    pub(super) report: &'r mut Report<'a>,
    pub(super) default_registry: &'a str,
    configured: &'a [String],
    /// Which services take part, of those that have profiles.
    pub(super) chosen: Chosen,
    files: &'a dyn Files,
    key: FingerprintKey,
    /// What is done with who is unhealthy where its service does not say it.
    pub(super) on_unhealthy: Option<OnUnhealthy>,
    variables: Variables,
    references: BTreeSet<PathBuf>,
    /// The names of all services, also of those that are not part of the project.
    service_names: BTreeSet<String>,
    /// How many more ports the file may name.
    ports_left: u32,
    /// How much more the mounts may take.
    mount_bytes_left: usize,
}

/// They come from the `.env` file beside the state file alone: what is true must come from files, not from the environment
/// that the daemon happens to be started in.
#[derive(Default)]
struct Variables {
    values: BTreeMap<String, String>,
    project: String,
}

impl Variables {
    fn value(&self, name: &str) -> Option<String> {
        let own = || (name == "COMPOSE_PROJECT_NAME").then(|| self.project.clone());
        self.values.get(name).cloned().or_else(own)
    }
}

pub(super) fn read(input: &Input<'_>) -> Result<Document, Vec<Problem>> {
    let source = Source::read(input.path, input.text).map_err(|problem| vec![*problem])?;
    let mut root = tree::read(&source).map_err(|problem| vec![*problem])?;
    let mut report = Report::new(&source);
    if !matches!(root.value, Value::Map(_)) {
        let message = format!("a state file is a map with `services:`, and this is {}", root.kind_name());
        report.error(root.at, "", message);
        return Err(report.finish().err().unwrap_or_default());
    }
    let mut reader = Reader {
        report: &mut report,
        default_registry: input.default_registry,
        configured: input.profiles,
        chosen: Chosen::default(),
        files: input.files,
        key: input.key,
        on_unhealthy: None,
        variables: Variables::default(),
        references: BTreeSet::new(),
        service_names: BTreeSet::new(),
        ports_left: MAX_PORTS,
        mount_bytes_left: MAX_MOUNT_BYTES,
    };
    reader.dotenv(input.path);
    let project = reader.project(input, &mut root);
    let references = reader.references.into_iter().collect();
    let warnings = report.finish()?;
    match project {
        Some(project) => Ok(Document { project, warnings, references }),
        None => Err(vec![Problem::error(Location::whole(input.path), "the file names no project")]),
    }
}

impl Reader<'_, '_> {
    /// A variable's value.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.variables.value(name)
    }

    /// Whether the file has a service of this name.
    pub(super) fn has_service(&self, name: &str) -> bool {
        self.service_names.contains(name)
    }

    /// Takes note of a range of ports.
    pub(super) fn spend_ports(&mut self, (first, last): (u16, u16)) -> Result<(), String> {
        let count = u32::from(last - first) + 1;
        match self.ports_left.checked_sub(count) {
            Some(left) => {
                self.ports_left = left;
                Ok(())
            }
            None => Err(format!("a file may name at most {MAX_PORTS} ports")),
        }
    }

    /// Takes note of a mount; whether there is room for it.
    pub(super) fn spend_mount(&mut self, bytes: usize) -> bool {
        let left = self.mount_bytes_left.checked_sub(bytes);
        self.mount_bytes_left = left.unwrap_or_default();
        left.is_some()
    }

    /// The content of a file that the state file names at `at`. A problem with it is told there, without its content.
    pub(super) fn file(&mut self, name: &Path, required: bool, at: Span, key: &str) -> Option<Vec<u8>> {
        self.references.insert(name.to_owned());
        match self.files.read(name) {
            Ok(bytes) if bytes.len() <= MAX_BYTES => Some(bytes),
            Err(FileError::Missing) if !required => None,
            outcome => {
                let error = outcome.err().unwrap_or(FileError::TooLarge);
                self.report.error(at, key, format!("the file {name:?} is not used: {error}"));
                None
            }
        }
    }

    /// The content of a file whose problems are told by who asks.
    pub(super) fn any_file(&mut self, name: &Path) -> Result<Vec<u8>, FileError> {
        self.references.insert(name.to_owned());
        self.files.read(name)
    }

    /// Likewise, of one that holds a secret; and whether others than its owner may read it.
    pub(super) fn secret_file(&mut self, name: &Path) -> Result<(Vec<u8>, bool), FileError> {
        self.references.insert(name.to_owned());
        self.files.read_secret(name)
    }

    /// A secret that is kept outside of the state folder.
    pub(super) fn external_secret(&self, name: &str) -> Result<Vec<u8>, FileError> {
        self.files.external_secret(name)
    }

    /// What was encrypted to this host.
    pub(super) fn decrypt(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        self.files.decrypt(bytes)
    }

    /// What tells this content from others.
    pub(super) fn fingerprint(&self, content: &[u8]) -> Fingerprint {
        Fingerprint::of(&self.key, content)
    }

    fn dotenv(&mut self, state_file: &Path) {
        let name = Path::new(".env");
        let file = state_file.parent().unwrap_or(Path::new("")).join(name);
        self.references.insert(name.to_owned());
        let bytes = match self.files.read(name) {
            Ok(bytes) if bytes.len() <= MAX_BYTES => bytes,
            Err(FileError::Missing) => return,
            outcome => {
                let error = outcome.err().unwrap_or(FileError::TooLarge);
                let message = format!("the `.env` file is not used: {error}");
                self.report.add(Problem::error(Location::whole(file), message));
                return;
            }
        };
        match dotenv::read(&bytes, Format::Compose, &|_| None) {
            Err(fault) => {
                self.report.add(Problem::error(Location::at(file, fault.line, 1), fault.message));
            }
            Ok(read) => {
                for line in read.unset {
                    let message = "a variable on this line is not set above it; it is taken as empty";
                    let hint = "a value with a dollar sign needs single quotes";
                    self.report.add(Problem::warning(Location::at(&file, line, 1), message)).hint(hint);
                }
                let set = read.lines.into_iter().filter_map(|line| line.value.map(|value| (line.name, value)));
                self.variables.values = set.collect();
            }
        }
    }

    fn project(&mut self, input: &Input<'_>, root: &mut Node) -> Option<Project> {
        self.variables.project = self.name_text(root).unwrap_or_else(|| normalised(input.default_name));
        let variables = &self.variables;
        substitute::substitute(root, &|name| variables.value(name), self.report);
        check(root, &Shape::Object(&FILE), "", self.report);
        let name = self.name(input, root);
        // What has the wrong shape would only be complained about once more.
        if self.report.failed() {
            return None;
        }
        effects::beside_services(root, &FILE, self.report);
        let name = name?;
        let definitions = Definitions::read(root, &name, self);
        let defined = data::Definitions::read(root, &name, self);
        let mut files = files::Definitions::read(root, self);
        self.on_unhealthy = health::everywhere(root, self);
        let parts = self.services(root, &name, &definitions, &defined, &mut files);
        let Parts { services, unchosen, networks, volumes } = parts;
        Some(Project { name, file: input.path.to_owned(), services, unchosen, networks, volumes })
    }

    /// The name as the file gives it, before anything else is filled in.
    fn name_text(&self, root: &Node) -> Option<String> {
        let text = root.given("name")?.text()?;
        interpolate(text, Lone::Refused, &|name| self.variables.values.get(name).cloned())
            .ok()
            .map(|filled| filled.text)
    }

    fn name(&mut self, input: &Input<'_>, root: &Node) -> Option<ProjectName> {
        let given = root.given("name");
        let (parsed, at, hint) = match given {
            Some(node) => (ProjectName::parse(node.text().unwrap_or_default()), node.at, "write another `name:`"),
            None => {
                let hint = "the file or folder gives the project its name; write `name:` into the file, or rename it";
                (ProjectName::parse(&normalised(input.default_name)), Span::default(), hint)
            }
        };
        match parsed {
            Ok(name) => Some(name),
            Err(error) => {
                self.report.error(at, "name", error.to_string()).hint(hint);
                None
            }
        }
    }

    fn services(
        &mut self,
        root: &Node,
        project: &ProjectName,
        definitions: &Definitions,
        defined: &data::Definitions,
        files: &mut files::Definitions,
    ) -> Parts {
        let given = root.given("services").map(Node::entries).unwrap_or_default();
        let included = root.entry("include").filter(|(_, node)| !node.items().is_empty());
        if given.is_empty() && included.is_none() {
            let at = root.entry("services").map_or_else(Span::default, |(key, _)| key.at);
            let noted = self.report.error(at, "services", "there is no service in the file");
            noted.hint("write at least one below `services:`; to remove a project, remove its file");
        }
        if given.len() > MAX_SERVICES {
            let at = given.get(MAX_SERVICES).map_or_else(Span::default, |(key, _)| key.at);
            self.report.error(at, "services", format!("a file may have at most {MAX_SERVICES} services"));
            return Parts::default();
        }
        self.chosen = Chosen::of(self.configured, root);
        self.service_names = given.iter().map(|(name, _)| name.text.clone()).collect();
        let all = self.holds_for_all(root);
        let (mut services, mut mounted) = (Vec::new(), Vec::new());
        for (name, body) in given {
            let key = path("services", &name.text);
            let Some((mut service, places, mounts)) =
                service::read(name, body, &key, definitions, defined, files, self)
            else {
                continue;
            };
            service.holds.extend(all.iter().cloned());
            service.suspended = service::suspended(body).or_else(|| service::suspended(root)).unwrap_or(false);
            services.push((service, places));
            mounted.push(mounts);
        }
        self.container_names(given);
        let networks = network::finish(&mut services, definitions, self.report);
        let mut services: Vec<Service> = services.into_iter().map(|(service, _)| service).collect();
        let volumes = data::finish(&mut services, &mounted, defined, self);
        let unchosen = profiles::finish(root, given, self);
        let known = order::Known { given, root, project, unchosen: &unchosen, included: included.is_some() };
        order::finish(&mut services, &known, self.report);
        let services = services.into_iter().map(|service| (service.name.clone(), service)).collect();
        Parts { services, unchosen, networks, volumes }
    }

    /// What stands beside the services and holds every one of them.
    fn holds_for_all(&mut self, root: &Node) -> Vec<Hold> {
        let mut holds = Vec::new();
        if let Some((_, own)) = root.entry("x-longshore") {
            holds.extend(effects::holds(own, &LONGSHORE, "x-longshore", self.report));
        }
        if let Some((key, _)) = root.entry("include").filter(|(_, node)| !node.items().is_empty()) {
            let message = effects::unsupported(
                "include",
                "a part of the project is written elsewhere, and its services must not run without it",
            );
            holds.push(effects::hold(self.report, key.at, "include", &message, "write the services into this file"));
        }
        holds
    }

    fn container_names(&mut self, services: &[(Key, Node)]) {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, body) in services {
            let Some(node) = body.given("container_name") else { continue };
            let Some(text) = node.text() else { continue };
            if let Some(other) = seen.insert(text, &name.text) {
                let key = format!("{}.container_name", path("services", &name.text));
                self.report.error(node.at, &key, format!("the service {other:?} has this container name too"));
            }
        }
    }
}

/// A file's or folder's name as Compose makes a project's name of it.
fn normalised(name: &str) -> String {
    let lower = name.to_lowercase();
    let kept: String =
        lower.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_')).collect();
    kept.trim_start_matches(['-', '_']).to_owned()
}
