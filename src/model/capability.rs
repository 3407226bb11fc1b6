//! Capabilities, by the kernel's numbers (`include/uapi/linux/capability.h`).

use std::fmt;

const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// Parses `NET_ADMIN`, `CAP_NET_ADMIN` or `net_admin`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES.iter().position(|n| *n == name).and_then(|at| u8::try_from(at).ok()).map(Self)
    }
    /// `CAP_NET_ADMIN`.
    #[must_use]
    pub fn name(self) -> String {
        format!("CAP_{}", NAMES[usize::from(self.0)])
    }
    /// All names without `CAP_`, for suggestions.
    #[must_use]
    pub const fn names() -> &'static [&'static str] {
        &NAMES
    }
}

/// A set of capabilities, as a bit mask.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None.
    pub const NONE: Self = Self(0);
    /// All that are known here.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);
    /// podman's eleven, the default: CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID
    /// SYS_CHROOT.
    pub const STRICT: Self = Self(0x8004_05fb);
    /// Docker's fourteen: those and AUDIT_WRITE MKNOD NET_RAW.
    pub const DOCKER: Self = Self(0xa804_25fb);

    /// From the kernel's bit mask; bits that are not known here are left out.
    #[must_use]
    pub const fn from_mask(mask: u64) -> Self {
        Self(mask & Self::ALL.0)
    }
    /// The kernel's bit mask.
    #[must_use]
    pub const fn mask(self) -> u64 {
        self.0
    }
    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// With one more.
    #[must_use]
    pub const fn with(self, one: Capability) -> Self {
        Self(self.0 | 1 << one.0)
    }
    /// Without one.
    #[must_use]
    pub const fn without(self, one: Capability) -> Self {
        Self(self.0 & !(1 << one.0))
    }
    /// Those of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Those that the other has not.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// Those of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// Whether it holds this one.
    #[must_use]
    pub const fn contains(self, one: Capability) -> bool {
        self.0 >> one.0 & 1 == 1
    }
    /// Its members, by their numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..NAMES.len()).filter_map(|n| u8::try_from(n).ok()).map(Capability).filter(move |c| self.contains(*c))
    }
    /// What a container holds: Docker's rules. What is added wins over what is dropped, but for `cap_add: ALL`.
    #[must_use]
    pub fn changed(self, add: Self, drop: Self) -> Self {
        if drop == Self::ALL {
            return add;
        }
        if add == Self::ALL {
            return Self::ALL.minus(drop);
        }
        self.minus(drop).union(add)
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Capability::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_all_their_spellings() {
        let mask = |t: &str| Capability::parse(t).map(|c| CapabilitySet::NONE.with(c).mask());
        assert_eq!(mask("CAP_NET_ADMIN"), Some(1 << 12));
        assert_eq!(mask("sys_admin"), Some(1 << 21));
        assert_eq!(mask("CHECKPOINT_RESTORE"), Some(1 << 40));
        assert_eq!(mask("NET"), None);
        let names = |set: CapabilitySet| set.iter().map(Capability::name).collect::<Vec<_>>().join(" ");
        assert_eq!(names(CapabilitySet::DOCKER.minus(CapabilitySet::STRICT)), "CAP_NET_RAW CAP_MKNOD CAP_AUDIT_WRITE");
        assert_eq!(CapabilitySet::STRICT.iter().count(), 11);
    }

    #[test]
    fn adding_and_dropping_go_by_dockers_rules() {
        let set = |names: &[&str]| {
            names.iter().filter_map(|n| Capability::parse(n)).fold(CapabilitySet::NONE, CapabilitySet::with)
        };
        let (none, all, strict) = (CapabilitySet::NONE, CapabilitySet::ALL, CapabilitySet::STRICT);
        assert_eq!(strict.changed(none, none), strict);
        assert_eq!(strict.changed(set(&["NET_ADMIN"]), all), set(&["NET_ADMIN"]));
        assert_eq!(strict.changed(all, set(&["SYS_ADMIN"])), all.minus(set(&["SYS_ADMIN"])));
        assert_eq!(strict.changed(set(&["CHOWN"]), set(&["CHOWN", "KILL"])), strict.minus(set(&["KILL"])));
    }
}
