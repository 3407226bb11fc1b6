//! A service as its file asks for it, with every key that acts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{
    Ability, ContainerName, Dependency, Digest, HealthPolicy, Hooks, ImageReference, Isolation, Location, Membership,
    Mount, MountSource, MountedFile, Names, Network, NetworkName, Platform, Problem, ProjectName, Resources,
    RestartPace, Schedule, ServiceName, SpecHash, Taking, Volume, VolumeName,
};

/// A Compose project: the services of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// `name:`, or the file's or folder's name.
    pub name: ProjectName,
    /// The state file that defines it.
    pub file: PathBuf,
    /// Its services by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// The services that are not part of it, because none of their profiles is chosen: these.
    pub unchosen: BTreeMap<ServiceName, Vec<String>>,
    /// The networks that it defines, by their names outside: those that a service of it uses, and those with a `name`.
    pub networks: BTreeMap<NetworkName, Network>,
    /// The volumes that it defines, by their names outside, also those that no service of it uses.
    pub volumes: BTreeMap<VolumeName, Volume>,
}

/// One service: what each of its containers is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name in the file.
    pub name: ServiceName,
    /// Which image; none where the file gives only `build:` (then a hold says so).
    pub image: Option<ImageReference>,
    /// Which platform of it, where the file says so.
    pub platform: Option<Platform>,
    /// When to pull.
    pub pull: PullPolicy,
    /// How many containers (`deploy.replicas`, `scale`).
    pub replicas: u32,
    /// `container_name`; only with one replica.
    pub container_name: Option<ContainerName>,
    /// What runs.
    pub process: Process,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// `annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `restart`, or `deploy.restart_policy`.
    pub restart: RestartPolicy,
    /// How restarts are spaced (`deploy.restart_policy`, `x-longshore: restart`).
    pub pace: RestartPace,
    /// `stop_signal`, `stop_grace_period`.
    pub stop: StopPolicy,
    /// `healthcheck`, `x-longshore: probe` and `on_unhealthy`.
    pub health: HealthPolicy,
    /// `network_mode`, `networks`, `ports` and the like.
    pub network: NetworkMode,
    /// `read_only`.
    pub read_only: bool,
    /// Keep its TCP ports open while a container of it is replaced (`x-longshore: hold_port`). Not part of the hash, nor of a container:
    /// it says how one is replaced.
    pub hold_port: bool,
    /// `volumes`, `volumes_from`; by target, none twice.
    pub mounts: Vec<Mount>,
    /// Paths of the host that must be mount points before it is started (`x-longshore: require_mount`).
    pub required_mounts: Vec<PathBuf>,
    /// `depends_on`, and what `links` and the like imply; by project and name, none twice. Not part of the hash: it says when a
    /// container is started and stopped, not what it is.
    pub depends: Vec<Dependency>,
    /// `x-longshore: schedule`: when it runs, where it runs at set times only. Not part of the hash.
    pub schedule: Option<Schedule>,
    /// `post_start`, `pre_stop`. Not part of the hash.
    pub hooks: Hooks,
    /// `configs`, `secrets`; by target, none twice.
    pub files: Vec<MountedFile>,
    /// `domainname`, `extra_hosts`, `dns`, `dns_search`, `dns_opt`.
    pub names: Names,
    /// What it may do and see.
    pub isolation: Isolation,
    /// What it may use. Not part of the hash: a container that runs is given what changed.
    pub resources: Resources,
    /// The manifest that it is made from whatever its image's name stands for: a generation that its owner, or a failed update, went
    /// back to. No file says this.
    pub pinned: Option<Digest>,
    /// Which generations are kept, and what is taken by itself. Not part of the hash.
    pub taking: Taking,
    /// What in the file makes it less confined than the defaults, for the status.
    pub loosenings: Vec<Loosening>,
    /// What its keys ask of the machine.
    pub wishes: Vec<Wish>,
    /// Nothing of it is to run (`x-longshore: suspend`). Not part of the hash.
    pub suspended: bool,
    /// Why this service must not be started as it is written: keys that ask for isolation, ports, networks, volumes or
    /// secrets that this version cannot give. Empty for a service that may run.
    pub holds: Vec<Hold>,
    /// Hash of all of the above that makes a container what it is, with the content of referenced files. Comments, order of
    /// keys, `replicas`, `pull_policy`, `restart`, `labels`, `resources`, `health` and the stop settings do not change it.
    pub hash: SpecHash,
}

impl Service {
    /// The images whose files it sees at a place of their own, beside the one that it is made from.
    #[must_use]
    pub fn mounted_images(&self) -> BTreeSet<&ImageReference> {
        let each = self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Image(image) => Some(&image.reference),
            MountSource::Bind(_) | MountSource::Volume(_) => None,
        });
        each.collect()
    }
    /// All images that it needs.
    pub fn images(&self) -> impl Iterator<Item = &ImageReference> {
        self.image.iter().chain(self.mounted_images())
    }
}

/// A reason not to start a service, with the place in the file that gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The problem as the status shows it (severity `Held`).
    pub problem: Problem,
}

/// A widening that the file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loosening {
    /// What it is, in a sentence.
    pub what: String,
    /// The key, as a dotted path.
    pub key: String,
    /// Where it is asked for.
    pub location: Location,
}

/// A key that needs something of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What.
    pub ability: Ability,
    /// Whether the service must not run without it: it asked for protection, not for comfort.
    pub needed: bool,
    /// The key, as a dotted path.
    pub key: String,
    /// Where it stands.
    pub location: Location,
}

/// `entrypoint`, `command` and their surroundings. `None` leaves the image's own value in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Replaces the image's entrypoint (and then the image's command is not used).
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Environment: over the image's, in the file's order.
    pub environment: Vec<EnvVar>,
    /// Replaces the image's working directory; absolute.
    pub working_dir: Option<String>,
    /// Replaces the image's user: `name|uid[:group|gid]`, looked up inside the image.
    pub user: Option<String>,
    /// Allocate a terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub stdin_open: bool,
    /// Run a small init as PID 1 that forwards signals and reaps.
    pub init: bool,
}

/// One environment variable. No value: the variable of that name is removed from the image's environment.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Name; not empty, no `=`, no NUL.
    pub name: String,
    /// Value.
    pub value: Option<String>,
}

/// Values may be secret: they are in no log.
impl std::fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, if self.value.is_some() { "…" } else { "" })
    }
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never by itself.
    No,
    /// Whenever it ends.
    Always,
    /// Whenever it ends, unless its owner stopped it.
    UnlessStopped,
    /// When it ends with another status than 0, at most `max` times (`None`: without limit).
    OnFailure {
        /// The limit.
        max: Option<u32>,
    },
}

/// How a container is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopPolicy {
    /// `stop_signal`; `None`: the image's, else SIGTERM.
    pub signal: Option<Signal>,
    /// `stop_grace_period`, 10 s where the file is silent: then SIGKILL.
    pub grace_ms: u64,
}

/// A signal number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

impl Signal {
    /// SIGTERM.
    pub const TERM: Self = Self(15);
    /// SIGKILL.
    pub const KILL: Self = Self(9);

    /// Parses `SIGTERM`, `TERM`, `term`, `15`, `SIGRTMIN+3` or `RTMAX-1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<u8>() {
            return (1..=64).contains(&number).then_some(Self(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let offset = |rest: &str, sign: char| match rest {
            "" => Some(0),
            _ => rest.strip_prefix(sign).and_then(|n| n.parse::<u8>().ok()).filter(|n| *n <= 30),
        };
        if let Some(rest) = name.strip_prefix("RTMIN") {
            return offset(rest, '+').map(|n| Self(34 + n));
        }
        if let Some(rest) = name.strip_prefix("RTMAX") {
            return offset(rest, '-').map(|n| Self(64 - n));
        }
        let known = match name {
            "IOT" => "ABRT",
            "CLD" => "CHLD",
            "POLL" => "IO",
            other => other,
        };
        let at = SIGNALS.iter().position(|s| *s == known)?;
        u8::try_from(at + 1).ok().map(Self)
    }
    /// Its number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0 as i32
    }
    /// Its name, `SIGTERM`, or its number where it has none.
    #[must_use]
    pub fn name(self) -> String {
        SIGNALS.get(usize::from(self.0) - 1).map_or_else(|| format!("signal {}", self.0), |n| format!("SIG{n}"))
    }
}

/// `pull_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Only when the image is not here (`missing`, `if_not_present`).
    Missing,
    /// Before each creation of a container.
    Always,
    /// Never; the image must be here.
    Never,
    /// At most once in this many milliseconds (`daily`, `weekly`, `every_12h`).
    Every {
        /// The interval.
        ms: u64,
    },
}

/// `network_mode`, `networks` and what goes with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMode {
    /// A network namespace of its own with nothing but loopback.
    None,
    /// The host's network.
    Host,
    /// A network namespace of its own, with a link to each of these networks.
    Networks(Box<Membership>),
    /// `service:NAME`: that of the first container of another service of the project.
    Service(ServiceName),
    /// `container:NAME`: that of another container.
    Container(ContainerName),
}

impl NetworkMode {
    /// Whether the container has a network namespace of its own.
    #[must_use]
    pub const fn own(&self) -> bool {
        matches!(self, Self::None | Self::Networks(_))
    }
    /// What it asks of networks, if it joins some.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        match self {
            Self::Networks(membership) => Some(membership),
            Self::None | Self::Host | Self::Service(_) | Self::Container(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Signal;

    #[test]
    fn signals_are_read_in_all_their_spellings() {
        let number = |t: &str| Signal::parse(t).map(Signal::number);
        assert_eq!(number("SIGTERM"), Some(15));
        assert_eq!(number("quit"), Some(3));
        assert_eq!(number("9"), Some(9));
        assert_eq!(number("SIGRTMIN+3"), Some(37));
        assert_eq!(number("RTMAX-1"), Some(63));
        assert_eq!(number("SYS"), Some(31));
        assert_eq!(number("0"), None);
        assert_eq!(number("65"), None);
        assert_eq!(number("SIGFOO"), None);
        assert_eq!(Signal::TERM.name(), "SIGTERM");
    }
}
