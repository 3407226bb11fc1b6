//! What this machine holds back from every container: said once, when the daemon starts.

use nix::sys::resource::{Resource, getrlimit};

use super::confine::bounding;
use super::oci::NOFILE;
use crate::model::{Capability, CapabilitySet};

/// A sentence for each thing that containers have less of here than elsewhere.
#[must_use]
pub fn held_back() -> Vec<String> {
    let host = bounding();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, u64::MAX));
    let may_raise = Capability::parse("SYS_RESOURCE").is_some_and(|capability| host.contains(capability));
    let files = (hard < NOFILE.1 && !may_raise).then(|| {
        format!(
            "a container may open {hard} files at most, not {}: the daemon's own limit is no higher, and it may not raise it",
            NOFILE.1
        )
    });
    let missing: Vec<String> = CapabilitySet::ALL.minus(host).iter().map(Capability::name).collect();
    let missing = (!missing.is_empty())
        .then(|| format!("this machine holds {} back: not even a privileged container has it", missing.join(", ")));
    files.into_iter().chain(missing).collect()
}
