//! The interface of the host that a network without a bridge is on.

use super::{BridgeError, check_name, foreign};
use crate::network::netlink::{Request, SeenLink, Socket};

/// Which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentSpec {
    /// Its name. One like `eth0.100` that is not there is made, as that VLAN of `eth0`.
    pub name: String,
    /// What one that we make says of itself: `longshore INSTANCE ID`.
    pub alias: String,
    /// Whether it has no wire, and is ours.
    pub wireless: bool,
}

/// Sees that it is there and up. Says whether it is ours.
pub fn ensure(host: &Socket, spec: &ParentSpec) -> Result<bool, BridgeError> {
    check_name(&spec.name)?;
    let ours = match host.link(&spec.name)? {
        Some(link) if link.alias == spec.alias => true,
        Some(_) if spec.wireless => return Err(foreign(host, &spec.name)?),
        Some(link) => return if link.up { Ok(false) } else { Err(BridgeError::Down(spec.name.clone())) },
        None => false,
    };
    if !ours {
        make(host, spec)?;
    }
    let link = host.link(&spec.name)?.ok_or_else(|| BridgeError::NoParent(spec.name.clone()))?;
    if !link.up {
        host.one(Request::up(&link))?;
    }
    Ok(true)
}

/// Removes it, if it is ours.
pub fn remove(host: &Socket, spec: &ParentSpec) -> Result<(), BridgeError> {
    match host.link(&spec.name)? {
        Some(link) if link.alias == spec.alias => {
            Ok(host.one(Request::remove(&format!("the interface {}", spec.name), &spec.name).unless_gone())?)
        }
        Some(_) | None => Ok(()),
    }
}

fn make(host: &Socket, spec: &ParentSpec) -> Result<(), BridgeError> {
    let label = format!("the interface {}", spec.name);
    let (make, lacking) = if spec.wireless {
        let advice = " (module dummy), which a network without a parent needs; name a parent (driver_opts: parent)";
        (Request::make_dummy(&label, &spec.name), BridgeError::Lacking { what: "dummy interfaces", advice })
    } else {
        let (parent, id) = tagged(&spec.name).ok_or_else(|| BridgeError::NoParent(spec.name.clone()))?;
        let parent = up(host, parent)?;
        let advice = " (module 8021q); make the parent by other means";
        (Request::make_vlan(&label, &spec.name, &parent, id), BridgeError::Lacking { what: "VLANs", advice })
    };
    let marked = host.all(&[make, Request::alias(&spec.name, &spec.alias)]);
    marked.map_err(|error| if error.is(libc::EOPNOTSUPP) { lacking } else { error.into() })
}

fn up(host: &Socket, name: &str) -> Result<SeenLink, BridgeError> {
    match host.link(name)? {
        Some(link) if link.up => Ok(link),
        Some(_) => Err(BridgeError::Down(name.to_owned())),
        None => Err(BridgeError::NoParent(name.to_owned())),
    }
}

/// `eth0.100`: the VLAN 100 of `eth0`.
fn tagged(name: &str) -> Option<(&str, u16)> {
    let (parent, id) = name.rsplit_once('.')?;
    let id = id.parse().ok().filter(|id| (1..=4094).contains(id))?;
    (!parent.is_empty()).then_some((parent, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::netlink::tests::apart;

    #[test]
    fn vlans_are_told_by_their_names() {
        assert_eq!(tagged("eth0.100"), Some(("eth0", 100)));
        assert_eq!(tagged("a.b.1"), Some(("a.b", 1)));
        for other in ["eth0", "eth0.", ".5", "eth0.0", "eth0.4095", "eth0.x"] {
            assert_eq!(tagged(other), None, "{other}");
        }
    }

    #[test]
    fn a_parent_of_the_host_is_used_and_stays() {
        apart(|| {
            let host = Socket::open().unwrap();
            let spec = ParentSpec { name: "p".into(), alias: "longshore i id".into(), wireless: false };
            assert!(matches!(ensure(&host, &spec), Err(BridgeError::NoParent(_))));
            host.one(Request::make_bridge("p", "p", None, None)).unwrap();
            assert!(matches!(ensure(&host, &spec), Err(BridgeError::Down(_))));
            let link = host.link("p").unwrap().unwrap();
            host.one(Request::up(&link)).unwrap();
            assert!(!ensure(&host, &spec).unwrap());
            remove(&host, &spec).unwrap();
            assert!(host.link("p").unwrap().is_some());
        });
    }

    /// Kernels may lack both kinds; that is said, and nothing is left.
    #[test]
    fn what_is_missing_is_made_and_removed_again() {
        apart(|| {
            let host = Socket::open().unwrap();
            host.one(Request::make_bridge("p", "p", None, None)).unwrap();
            host.one(Request::up(&host.link("p").unwrap().unwrap())).unwrap();
            for (name, wireless) in [("p.7", false), ("ls-x", true)] {
                let spec = ParentSpec { name: name.into(), alias: "longshore i id".into(), wireless };
                match ensure(&host, &spec) {
                    Ok(ours) => {
                        let link = host.link(name).unwrap().unwrap();
                        assert!(ours && link.up && ensure(&host, &spec).unwrap());
                        assert_eq!(link.vlan, (!wireless).then_some(7));
                        remove(&host, &spec).unwrap();
                    }
                    Err(error) => assert!(matches!(error, BridgeError::Lacking { .. }), "{error}"),
                }
                assert!(host.link(name).unwrap().is_none());
            }
        });
    }
}
