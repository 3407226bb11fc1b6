//! What the reconciler tells of services: with the folder as it is on disk, and a host that is only seen.

use std::collections::BTreeMap;
use std::path::Path;

use super::describe::Surroundings;
use super::host::Gauges;
use super::view::{Phase, View};
use super::{Ledger, Reconciler};
use crate::model::{Ability, Severity, Timestamp};
use crate::plan::{Limits, Memory, Observed};
use crate::source::Looker;

fn read(text: &str) -> Reconciler {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), text).unwrap();
    let mut reconciler = Reconciler::new(Ledger::default(), Memory::default(), BTreeMap::new(), Limits::default());
    let noted = reconciler.looked(&Looker::new(folder.path()).look(), Timestamp(1));
    assert_eq!(noted.changes.applied.len(), 1);
    reconciler
}

fn view(reconciler: &Reconciler) -> View {
    let (unsaved, gauges) = (None, Gauges::default());
    let around = Surroundings {
        now: Timestamp(5),
        revision: 1,
        folder: Path::new("/state"),
        watching: String::new(),
        unsaved,
        saving: false,
        gauges,
    };
    reconciler.view(&around)
}

#[test]
fn what_the_machine_lacks_holds_or_warns_at_the_key_and_is_told_once() {
    let text = "services:\n  a:\n    image: b\n    network_mode: none\n    pids_limit: 9\n    mem_limit: 64m\n  b:\n    image: b\n    \
                network_mode: none\n    mem_swappiness: 7\n    cap_add: [SYS_TIME]\n";
    let mut reconciler = read(text);
    let why = |words: &str| words.to_owned();
    let lacks = BTreeMap::from([
        (Ability::Memory, why("the kernel has no memory controller")),
        (Ability::Swappiness, why("there is none for a cgroup with cgroup v2")),
    ]);
    let observed = Observed { lacks, ..Observed::default() };
    let (steps, noted) = reconciler.step(observed.clone(), Timestamp(2));
    assert_eq!(steps.iter().filter_map(|s| s.slot.as_ref()).count(), 0);
    let told: Vec<_> = noted.events.iter().map(|event| format!("{} {}", event.kind, event.message)).collect();
    assert_eq!(
        told,
        [
            "file.problem a.yaml:10:5: `services.b.mem_swappiness` cannot be honoured on this machine: there is none for a cgroup with cgroup v2 (the service runs without it)",
            "file.problem a.yaml:6:5: `services.a.mem_limit` cannot be honoured on this machine: the kernel has no memory controller (the service is not started; without `mem_limit` it would be)",
        ]
    );
    assert!(reconciler.step(observed, Timestamp(3)).1.events.is_empty(), "told once");
    let seen = view(&reconciler);
    let (a, b) = (&seen.projects[0].services[0], &seen.projects[0].services[1]);
    assert_eq!((a.phase, a.holds.len(), a.holds[0].severity), (Phase::Held, 1, Severity::Held));
    assert_eq!((b.phase, b.holds.len(), b.loosenings.len()), (Phase::Applying, 0, 1));
    assert_eq!(seen.problems.len(), 2);
    // The machine was started with what it lacked.
    let (_, noted) = reconciler.step(Observed::default(), Timestamp(4));
    assert_eq!((noted.events.len(), view(&reconciler).problems.len()), (0, 0));
}
