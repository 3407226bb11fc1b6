//! The configuration: a JSON file and flags, each setting in one of the two.
//!
//! Keys are those of a dockerd-like `daemon.json`: kebab-case, unknown ones refused with the nearest known one.

mod check;
mod images;
mod keys;
mod networks;
mod notices;
mod place;
mod registries;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Location, Problem};
use crate::source::{DOCKER_HUB, Defaults};
pub use images::{CollectFile, ImageLimits, ImagesFile};
pub(in crate::daemon) use networks::ExposeFile;
pub(in crate::daemon) use networks::NetworksFile;
pub use notices::NoticeFile;
pub(super) use registries::host_and_prefix;
pub use registries::{ProxyFile, RegistryFile};

/// Where the file is looked for when no flag names one.
pub(super) const DEFAULT_FILE: &str = "/etc/longshore/config.json";

/// The configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(title = "Longshore configuration")]
pub struct ConfigFile {
    /// The folder of state files. Default: /etc/longshore/state
    pub state_dir: Option<PathBuf>,
    /// Images, containers and the database. Default: /var/lib/longshore
    pub data_dir: Option<PathBuf>,
    /// What does not outlive the machine. Default: /run/longshore
    pub run_dir: Option<PathBuf>,
    /// The unix socket of the API. Default: longshore.sock in the run directory
    pub socket: Option<PathBuf>,
    /// A TCP address for the API; only a loopback address is accepted. Default: none
    pub tcp: Option<SocketAddr>,
    /// Log everything that is decided. Default: false. Reloaded by SIGHUP.
    pub debug: Option<bool>,
    /// The form of the daemon's own log: text or json. Default: text
    pub log_format: LogFormat,
    /// An OCI runtime (runc) to run containers with, by its path. Default: the built-in one
    pub runtime: Option<PathBuf>,
    /// Who makes the folder that the containers' cgroups are in: systemd (as a unit that is delegated to Longshore; needs cgroup v2), cgroupfs (Longshore itself, below /longshore) or auto. Default: auto, systemd where it runs and cgroups are v2 alone
    pub cgroup_driver: CgroupDriverFile,
    /// The user whose ranges in /etc/subuid and /etc/subgid containers with users of their own get. Default: longshore, or containers where longshore has none
    pub userns_remap_user: Option<String>,
    /// Further OCI runtimes, by the names that a file's `runtime` gives them. Default: none
    pub runtimes: BTreeMap<String, PathBuf>,
    /// The capabilities that a container has whose file changes nothing: strict (podman's eleven) or docker (those, AUDIT_WRITE, MKNOD and NET_RAW). Default: strict
    pub default_capabilities: DefaultCapabilities,
    /// Whether programs with the set-user-id bit gain nothing by it in containers whose file does not say (`security_opt: no-new-privileges`). Default: false
    pub no_new_privileges: bool,
    /// Folders with CDI files, which describe devices (GPUs); a later one wins. Default: /etc/cdi and /var/run/cdi
    pub cdi_dirs: Option<Vec<PathBuf>>,
    /// Who reaches published ports: all (as with Docker, past the host's own firewall), loopback (this machine), or host-firewall (whom the host's own rules let in; connections then go through a small process of Longshore's, and come from the network's gateway). Default: all
    pub expose_default: ExposeFile,
    /// The address that ports are published on whose file names none. Default: all addresses
    pub publish_default_ip: Option<IpAddr>,
    /// Subnets of networks, and what containers reach.
    pub networks: NetworksFile,
    /// Stop all containers when the daemon stops. Default: false, they run on
    pub stop_containers_on_shutdown: bool,
    /// The registry (host or host:port) of image names that name none: a host with a dot or a port, or localhost. Default: docker.io
    pub default_registry: Option<String>,
    /// Compose profiles that are chosen for all projects, beside those of `x-longshore: {profiles: [..]}` in a file and of --profile; "*" is all. Default: none
    pub profiles: Vec<String>,
    /// Registries (host or host:port) that are spoken to by plain HTTP. Loopback addresses always are.
    pub insecure_registries: Vec<String>,
    /// What is set for single registries, by host or host:port as image names have it (docker.io).
    pub registries: BTreeMap<String, RegistryFile>,
    /// Files in the format of Docker's config.json with logins and credential helpers; the first that knows a registry counts, `longshore login` writes the first. They may be readable by their owner only. Default: $DOCKER_CONFIG/config.json, else ~/.docker/config.json of the daemon's user
    pub login_files: Option<Vec<PathBuf>>,
    /// Folders in Docker's certs.d layout: `HOST[:PORT]/{*.crt, *.cert, *.key}`. Default: /etc/longshore/certs.d and /etc/docker/certs.d
    pub certs_dirs: Option<Vec<PathBuf>>,
    /// Proxies on the way to registries. Default: what the environment says (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)
    pub proxies: ProxyFile,
    /// How images are fetched, and when unused ones are removed.
    pub images: ImagesFile,
    /// How many generations of a service are kept to go back to, where its file does not say it. Default: 5
    #[schemars(range(min = 1, max = 100))]
    pub generations: Option<u32>,
    /// How much of a container's output is kept.
    pub container_logs: ContainerLogs,
    /// Where events are sent to as they happen, each as a POST with JSON. Default: nowhere
    pub notices: Vec<NoticeFile>,
    /// How much is done at once.
    pub concurrency: Concurrency,
}

/// The form of the daemon's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// JSON lines.
    Json,
}

/// Who makes the folder that the containers' cgroups are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupDriverFile {
    /// systemd where it runs and cgroups are v2 alone, else cgroupfs.
    #[default]
    Auto,
    /// Longshore itself.
    Cgroupfs,
    /// systemd.
    Systemd,
}

/// The capabilities that files add to and drop from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultCapabilities {
    /// podman's eleven.
    #[default]
    Strict,
    /// Docker's fourteen.
    Docker,
}

/// How much of a container's output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ContainerLogs {
    /// Bytes of one log file. Default: 10485760
    #[schemars(range(min = 65536))]
    pub max_size: u64,
    /// How many log files. Default: 5
    #[schemars(range(min = 1, max = 100))]
    pub max_files: u32,
    /// Of how many containers that are gone the output is kept for each replica (`longshore logs --previous`). Default: 3
    #[schemars(range(max = 100))]
    pub previous: u32,
    /// Bytes of all output that is kept of containers that are gone. Default: 268435456
    pub previous_size: u64,
}

impl Default for ContainerLogs {
    fn default() -> Self {
        Self { max_size: 10 << 20, max_files: 5, previous: 3, previous_size: 256 << 20 }
    }
}

/// How much is done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Concurrency {
    /// Pulls. Default: 3
    #[schemars(range(min = 1, max = 100))]
    pub pulls: usize,
    /// Containers that are created, started, stopped or removed. Default: 16
    #[schemars(range(min = 1, max = 1000))]
    pub containers: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { pulls: 3, containers: 16 }
    }
}

/// What the command line says; a flag that is given is `Some`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--run-dir`
    pub run_dir: Option<PathBuf>,
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--debug`
    pub debug: bool,
    /// `--profile`, as often as given
    pub profiles: Vec<String>,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The folder of state files.
    pub state_dir: PathBuf,
    /// Images, containers and the database.
    pub data_dir: PathBuf,
    /// What does not outlive the machine.
    pub run_dir: PathBuf,
    /// The unix socket of the API.
    pub socket: PathBuf,
    /// Log everything that is decided.
    pub debug: bool,
    /// Profiles that are chosen for all projects.
    pub profiles: Vec<String>,
    /// Everything else, as the file gives it.
    pub file: ConfigFile,
}

impl Config {
    /// Reads the file and joins it with the flags; everything that is wrong at once.
    pub fn load(flags: &Flags) -> Result<Self, Vec<Problem>> {
        let path = flags.config.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // Only the file that nobody asked for may be missing.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && flags.config.is_none() => "{}".to_owned(),
            Err(error) => {
                return Err(vec![Problem::error(Location::whole(path), format!("it cannot be read: {error}"))]);
            }
        };
        Self::from_text(&path, &text, flags)
    }

    fn from_text(path: &Path, text: &str, flags: &Flags) -> Result<Self, Vec<Problem>> {
        let file = keys::parse(path, text)?;
        let mut said = check::Said::about(path, text);
        check::twice(&mut said, &file, flags);
        check::check(&mut said, &file);
        let problems = said.problems;
        if !problems.is_empty() {
            return Err(problems);
        }
        // A flag may be relative to where the daemon is started; its shims run elsewhere.
        let whole = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let pick = |flag: &Option<PathBuf>, file: &Option<PathBuf>, default: &str| {
            whole(flag.clone().or_else(|| file.clone()).unwrap_or_else(|| default.into()))
        };
        let run_dir = pick(&flags.run_dir, &file.run_dir, "/run/longshore");
        let socket = flags.socket.clone().or_else(|| file.socket.clone()).map(whole);
        Ok(Self {
            state_dir: pick(&flags.state_dir, &file.state_dir, "/etc/longshore/state"),
            data_dir: pick(&flags.data_dir, &file.data_dir, "/var/lib/longshore"),
            socket: socket.unwrap_or_else(|| run_dir.join("longshore.sock")),
            run_dir,
            debug: flags.debug || file.debug.unwrap_or(false),
            profiles: file.profiles.iter().chain(&flags.profiles).cloned().collect(),
            file,
        })
    }

    /// The registry that is meant where an image names none.
    #[must_use]
    pub fn default_registry(&self) -> &str {
        self.file.default_registry.as_deref().unwrap_or(DOCKER_HUB)
    }

    /// What counts for every state file.
    #[must_use]
    pub fn defaults(&self) -> Defaults {
        Defaults { registry: self.default_registry().to_owned(), profiles: self.profiles.clone() }
    }

    /// What differs from `new` and needs a restart, by key; for a reload.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<String> {
        let as_map = |config: &Self| {
            let file = ConfigFile { debug: None, ..config.file.clone() };
            serde_json::to_value(file).unwrap_or_default()
        };
        let (old, new) = (as_map(self), as_map(new));
        let keys = old.as_object().into_iter().flatten().map(|(key, _)| key.clone());
        keys.filter(|key| old.get(key) != new.get(key)).collect()
    }
}

/// The JSON Schema of the configuration file.
#[must_use]
pub fn schema() -> serde_json::Value {
    serde_json::to_value(schemars::schema_for!(ConfigFile)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, flags: &Flags) -> Result<Config, Vec<String>> {
        let problems = |all: Vec<Problem>| all.iter().map(ToString::to_string).collect();
        Config::from_text(Path::new("config.json"), text, flags).map_err(problems)
    }

    #[test]
    fn defaults_and_flags_and_file_are_joined() {
        let flags = Flags { run_dir: Some("/run/x".into()), ..Flags::default() };
        let config = load(r#"{"state-dir": "/srv/state", "debug": true}"#, &flags).unwrap();
        assert_eq!(config.state_dir, Path::new("/srv/state"));
        assert_eq!(config.data_dir, Path::new("/var/lib/longshore"));
        assert_eq!(config.socket, Path::new("/run/x/longshore.sock"));
        assert!(config.debug);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let none = Flags::default();
        let said = |text: &str| load(text, &none).unwrap_err().join("\n");
        assert_eq!(
            said("{\n  \"state-dirr\": \"/x\"\n}"),
            "config.json:2:3: the key state-dirr is not known (did you mean state-dir?)"
        );
        assert_eq!(
            said("{\"container-logs\": {\"max-fils\": 1}}"),
            "config.json:1:21: the key container-logs.max-fils is not known (did you mean max-files?)"
        );
        assert!(said("{\"debug\": \"yes\"}").starts_with("config.json:1:15: invalid type"));
        assert!(said("{,}").starts_with("config.json:1:2: it is not JSON"));
        assert!(said("{\"tcp\": \"0.0.0.0:80\"}").contains("not a loopback address"));
        assert!(said("{\"data-dir\": \"x\"}").contains("relative"));
        assert!(said("{\"cgroup-driver\": \"docker\"}").contains("expected one of `auto`, `cgroupfs`, `systemd`"));
        assert!(said("{\"userns-remap-user\": \"a:1\"}").contains(":1:2: \"a:1\" is not a user's name"));
        assert!(said("{\"cdi-dirs\": [\"x\"]}").contains("cdi-dirs is a relative path"));
        assert!(said("{\"runtimes\": {\"kata\": \"/no/kata\"}}").contains(":1:15: /no/kata is not a program"));
        assert!(said("{\"default-capabilities\": \"all\"}").contains("unknown variant"));
    }

    #[test]
    fn what_is_wrong_about_registries_and_images_is_said_with_its_place() {
        let said = |text: &str| load(text, &Flags::default()).unwrap_err().join("\n");
        let table = [
            (
                r#"{"registries": {"docker.io": {"mirrorss": []}}}"#,
                ":1:31: the key registries.docker.io.mirrorss is not known (did you mean mirrors?)",
            ),
            (
                r#"{"registries": {"docker.io": {"mirrors": ["https://a", "b"]}}}"#,
                ":1:56: the mirror is not an address",
            ),
            (r#"{"registries": {"https://x": {}}}"#, ":1:17: \"https://x\" is not host or host:port"),
            (r#"{"registries": {"x": {"username": "u"}}}"#, ":1:23: a username without a password-file"),
            (r#"{"registries": {"x": {"password-file": "/p"}}}"#, "a password-file without a username"),
            (r#"{"registries": {"x": {"username": "u", "password-file": "/nowhere"}}}"#, "/nowhere is not there"),
            (r#"{"registries": {"x": {"client-cert-file": "/c"}}}"#, "a certificate without its key"),
            (r#"{"registries": {"x": {"ca-file": "/etc/hostname"}}}"#, "holds no certificate in PEM"),
            (r#"{"insecure-registries": ["x"], "registries": {"x": {"plain-http": false}}}"#, "keep one of the two"),
            (r#"{"default-registry": "hub"}"#, ":1:2: \"hub\" is not a registry that image names can name"),
            (r#"{"default-registry": "https://x.y"}"#, "\"https://x.y\" is not a registry"),
            (r#"{"profiles": ["debug", "a b"]}"#, ":1:24: \"a b\" is not the name of a profile"),
            (r#"{"profiles": [""]}"#, "\"\" is not the name of a profile"),
            (r#"{"images": {"collect": {"start": 80, "stop": 90}}}"#, ":1:38: stop (90 %) is not below start (80 %)"),
            (r#"{"images": {"collect": {"start": 100}}}"#, ":1:25: start is 1 to 99 percent"),
            (
                r#"{"images": {"collect": {"min-age": "soon"}}}"#,
                ":1:25: min-age is not a duration (write 90m, 24h or 7d)",
            ),
            (r#"{"images": {"collect": {"stopp": 1}}}"#, "did you mean stop?"),
            (r#"{"images": {"limits": {"layers": 0}}}"#, "layers is 0; it is 1 to 500"),
            (r#"{"images": {"layers-at-once": 0}}"#, "layers-at-once is 1 to 32"),
            (r#"{"proxies": {"http-proxy": "proxy:3128"}}"#, ":1:14: http-proxy is not an address"),
            (r#"{"networks": {"pools": [{"base": "10.0.0.1/16", "size": 24}]}}"#, "is not a range of addresses"),
            (r#"{"networks": {"pools": [{"base": "10.0.0.0/16", "size": 30}]}}"#, "size is 16 to 29 here"),
            (r#"{"networks": {"pools": [{"base": "10.0.0.0/16"}]}}"#, "missing field `size`"),
            (r#"{"networks": {"block": ["metadata"]}}"#, "is neither an address nor a range"),
            (r#"{"expose-default": "lan"}"#, "expected one of `all`, `loopback`, `host-firewall`"),
            (r#"{"publish-default-ip": "eth0"}"#, "invalid IP address"),
            (r#"{"login-files": ["x"]}"#, ":1:18: login-files is a relative path"),
        ];
        for (text, words) in table {
            assert!(said(text).contains(words), "{text}: {}", said(text));
        }
    }

    #[test]
    fn a_relative_flag_means_the_folder_where_the_daemon_is_started() {
        let flags = Flags { data_dir: Some("data".into()), ..Flags::default() };
        let config = load("{}", &flags).unwrap();
        assert_eq!(config.data_dir, std::env::current_dir().unwrap().join("data"));
    }

    #[test]
    fn profiles_of_the_file_and_of_flags_add_up() {
        let flags = Flags { profiles: vec!["tools".into()], ..Flags::default() };
        let config = load(r#"{"profiles": ["debug", "*"]}"#, &flags).unwrap();
        assert_eq!(config.defaults().profiles, ["debug", "*", "tools"]);
    }

    #[test]
    fn a_setting_in_both_places_is_an_error() {
        let flags = Flags { data_dir: Some("/a".into()), debug: true, ..Flags::default() };
        let said = load(r#"{"data-dir": "/b", "debug": false}"#, &flags).unwrap_err();
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("data-dir is set in the file and by the flag --data-dir"));
    }

    #[test]
    fn a_reload_says_what_needs_a_restart() {
        let load = |text| load(text, &Flags::default()).unwrap();
        let (old, new) = (load("{}"), load(r#"{"debug": true, "socket": "/x", "concurrency": {"pulls": 9}}"#));
        assert_eq!(old.needs_restart(&new), ["socket", "concurrency"]);
        let new = load(r#"{"registries": {"x": {}}, "images": {"layers-at-once": 4}}"#);
        assert_eq!(old.needs_restart(&new), ["registries", "images"]);
    }
}
