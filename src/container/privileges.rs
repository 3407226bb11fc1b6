//! What a container's processes may do: capabilities and `no_new_privs`. Pure.

use super::link::Order;
use crate::model::{Capability, CapabilitySet, Isolation};

/// What the daemon's configuration gives a container whose file says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// The capabilities that a file adds to and drops from.
    pub capabilities: CapabilitySet,
    /// Whether programs with the set-user-id bit or file capabilities gain nothing by them.
    pub no_new_privileges: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { capabilities: CapabilitySet::STRICT, no_new_privileges: false }
    }
}

/// What one container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privileges {
    /// Its bounding set. Its root holds them, other users none.
    pub capabilities: CapabilitySet,
    /// Whether programs with the set-user-id bit or file capabilities gain nothing by them.
    pub no_new_privileges: bool,
}

/// By Docker's rules: a privileged container has all of them, whatever is dropped.
#[must_use]
pub fn of(isolation: &Isolation, defaults: &Defaults) -> Privileges {
    let capabilities = if isolation.privileged {
        CapabilitySet::ALL
    } else {
        defaults.capabilities.changed(isolation.cap_add, isolation.cap_drop)
    };
    let no_new_privileges = isolation.no_new_privileges.unwrap_or(defaults.no_new_privileges);
    Privileges { capabilities, no_new_privileges }
}

/// What it gets on this machine, whose daemon holds `bounding`: what is held back from everybody, nobody can be given, and where
/// nothing refuses devices, none can be made.
#[must_use]
pub fn granted(isolation: &Isolation, order: &Order, bounding: CapabilitySet) -> Privileges {
    let defaults = Defaults {
        capabilities: CapabilitySet::from_mask(order.default_capabilities),
        no_new_privileges: order.no_new_privileges,
    };
    let given = of(isolation, &defaults);
    let none = if order.device_guard { None } else { Capability::parse("MKNOD") };
    let capabilities = none.map_or(given.capabilities, |none| given.capabilities.without(none));
    Privileges { capabilities: capabilities.intersection(bounding), ..given }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_changes_what_the_configuration_gives() {
        let one = |name| CapabilitySet::NONE.with(Capability::parse(name).expect("a name"));
        let defaults = Defaults::default();
        let seen = |isolation: &Isolation| of(isolation, &defaults).capabilities;
        assert_eq!(seen(&Isolation::default()), CapabilitySet::STRICT);
        let added = Isolation { cap_add: one("NET_RAW"), cap_drop: one("CHOWN"), ..Isolation::default() };
        assert_eq!(seen(&added), CapabilitySet::STRICT.minus(one("CHOWN")).union(one("NET_RAW")));
        let privileged = Isolation { privileged: true, cap_drop: CapabilitySet::ALL, ..Isolation::default() };
        assert_eq!(seen(&privileged), CapabilitySet::ALL);
        for (file, configured, wanted) in
            [(None, true, true), (None, false, false), (Some(false), true, false), (Some(true), false, true)]
        {
            let isolation = Isolation { no_new_privileges: file, ..Isolation::default() };
            let defaults = Defaults { no_new_privileges: configured, ..defaults };
            assert_eq!(of(&isolation, &defaults).no_new_privileges, wanted);
        }
    }
}
