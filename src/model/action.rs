//! What the planner asks the host to do. An action carries all it needs and may be done twice.

use std::fmt;

use super::{ContainerId, ContainerSpec, Digest, ImageReference, Network, NetworkId, NetworkPlace, Platform, Signal};

/// What an action, a wait or a failure is about. At most one action is under way for each key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An image.
    Image(ImageReference),
    /// A container.
    Container(ContainerId),
    /// A network.
    Network(NetworkId),
    /// The packet filter's rules.
    Firewall,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(image) => write!(f, "image {image}"),
            Self::Container(id) => write!(f, "container {}", id.short()),
            Self::Network(id) => write!(f, "network {}", id.short()),
            Self::Firewall => write!(f, "the firewall"),
        }
    }
}

/// One step on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the image present (and, if `refresh`, ask the registry whether the tag moved).
    Pull {
        /// Which.
        image: ImageReference,
        /// For which platform, where the file says so.
        platform: Option<Platform>,
        /// Ask the registry although the image is here.
        refresh: bool,
    },
    /// Make the container's folder, root and record. The container does not run.
    Create {
        /// What to make.
        spec: Box<ContainerSpec>,
    },
    /// Start a container that was made. Done when its command runs.
    Start {
        /// What to start.
        spec: Box<ContainerSpec>,
        /// Where its network comes from.
        network: NetworkPlace,
    },
    /// Make a network, or put right what is wrong with it. Its id is derived from it.
    MakeNetwork {
        /// What to make.
        network: Box<Network>,
    },
    /// Remove a network that no container is joined to.
    RemoveNetwork {
        /// Which.
        id: NetworkId,
    },
    /// Put the links of a container that runs right.
    Connect {
        /// Whose.
        spec: Box<ContainerSpec>,
    },
    /// Put the rules of the packet filter right.
    Guard,
    /// Give a container what can change without making it again: `resources`, `labels`, `restart`, the stop settings. Its record, and
    /// its cgroups where it runs.
    Update {
        /// What it is to be; the same id and hash.
        spec: Box<ContainerSpec>,
    },
    /// Keep the published TCP ports of a container open while it is replaced: new connections wait.
    HoldPorts {
        /// Whose.
        id: ContainerId,
    },
    /// Let the ports and the names of its slot lead to this container, from whomever they led to.
    HandOver {
        /// To whom.
        spec: Box<ContainerSpec>,
    },
    /// Ask its main process to end, and end it after the grace period; done when no process of it is left.
    Stop {
        /// Which.
        id: ContainerId,
        /// With what; `None`: the image's stop signal, else SIGTERM.
        signal: Option<Signal>,
        /// How long to wait before SIGKILL.
        grace_ms: u64,
    },
    /// Hold every process of a container still.
    Pause {
        /// Which.
        id: ContainerId,
    },
    /// Let them go on.
    Unpause {
        /// Which.
        id: ContainerId,
    },
    /// Remove a container that does not run, with its writable layer, record, logs and cgroup.
    Remove {
        /// Which.
        id: ContainerId,
    },
    /// Remove an image that nobody uses, with the layers that no other image has. It refuses what is used after all.
    RemoveImage {
        /// Which.
        image: ImageReference,
        /// What its name stood for when that was decided; a name that moved since stays.
        digest: Digest,
    },
}

impl Action {
    /// What it is about.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Pull { image, .. } | Self::RemoveImage { image, .. } => Key::Image(image.clone()),
            Self::Create { spec }
            | Self::Start { spec, .. }
            | Self::Update { spec }
            | Self::Connect { spec }
            | Self::HandOver { spec } => Key::Container(spec.id.clone()),
            Self::MakeNetwork { network } => Key::Network(NetworkId::derive(network)),
            Self::RemoveNetwork { id } => Key::Network(id.clone()),
            Self::Guard => Key::Firewall,
            Self::HoldPorts { id }
            | Self::Stop { id, .. }
            | Self::Pause { id }
            | Self::Unpause { id }
            | Self::Remove { id } => Key::Container(id.clone()),
        }
    }
    /// The verb, for people.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Pull { .. } => "pull",
            Self::Create { .. } => "create",
            Self::Start { .. } => "start",
            Self::Update { .. } => "update",
            Self::Stop { .. } => "stop",
            Self::Pause { .. } => "pause",
            Self::Unpause { .. } => "unpause",
            Self::Remove { .. } => "remove",
            Self::RemoveImage { .. } => "remove image",
            Self::MakeNetwork { .. } => "make network",
            Self::RemoveNetwork { .. } => "remove network",
            Self::Connect { .. } => "connect",
            Self::Guard => "guard",
            Self::HoldPorts { .. } => "hold ports",
            Self::HandOver { .. } => "hand over",
        }
    }
}
