//! Configs and secrets in a history: which a service has follows from its version, what they hold changes at any time.

use super::{in_force, wanted};
use crate::model::{
    ContainerSpec, ContainerState, Content, FileKind, Fingerprint, FingerprintKey, MountedFile, ObservedContainer,
    OnChange, Service, Signal,
};
use crate::plan::sim::{Chance, World};

fn file(number: usize, chance: &mut Chance) -> MountedFile {
    let mut file = MountedFile {
        kind: [FileKind::Config, FileKind::Secret][number % 2],
        name: format!("f{}", chance.below(2)),
        target: format!("/f{number}"),
        uid: None,
        gid: None,
        mode: 0o400,
        on_change: [OnChange::Restart, OnChange::Update, OnChange::Signal(Signal::TERM)][chance.below(3)],
        fingerprint: Fingerprint::of(&FingerprintKey::default(), b""),
        kept: None,
        content: None,
    };
    fill(&mut file, chance);
    file
}

fn fill(file: &mut MountedFile, chance: &mut Chance) {
    let bytes = vec![u8::try_from(chance.below(3)).unwrap()];
    file.fingerprint = Fingerprint::of(&FingerprintKey::default(), &bytes);
    file.content = Some(Content::new(bytes));
}

pub(super) fn files(version: usize, chance: &mut Chance) -> Vec<MountedFile> {
    (0..version % 3).map(|number| file(number, chance)).collect()
}

/// One of them holds something else, or is answered in another way.
pub(super) fn change(service: &mut Service, chance: &mut Chance) {
    let all = service.files.len();
    if all == 0 {
        return;
    }
    let number = chance.below(all);
    if chance.one_in(4) {
        service.files[number] = file(number, chance);
    } else {
        fill(&mut service.files[number], chance);
    }
}

fn swapped(file: &MountedFile) -> bool {
    matches!(file.on_change, OnChange::Update | OnChange::Signal(_))
}

/// What both have at the same place, if one of them holds something else there.
fn differ<'a>(container: &'a ObservedContainer, service: &'a Service) -> impl Iterator<Item = &'a MountedFile> {
    let made = &container.spec.service.files;
    let same = move |file: &&MountedFile| {
        made.iter().any(|made| made.target == file.target && made.fingerprint != file.fingerprint)
    };
    service.files.iter().filter(same)
}

/// Whether it has to be started again for what one of its files holds by now.
pub(super) fn changed(world: &World, container: &ObservedContainer) -> bool {
    let runs_or_ran = matches!(container.state, ContainerState::Running { .. } | ContainerState::Exited { .. });
    let current = wanted(world, &container.spec.slot)
        .filter(|service| service.hash == container.spec.service.hash && in_force(world, &container.spec.slot));
    runs_or_ran && current.is_some_and(|service| differ(container, service).any(|file| !swapped(file)))
}

/// Whether one that runs is to be given what a file holds as it is.
pub(super) fn swaps(container: &ObservedContainer, service: &Service) -> bool {
    matches!(container.state, ContainerState::Running { .. }) && differ(container, service).any(swapped)
}

/// Whether all that it sees is as the file says.
pub(super) fn settled(container: &ObservedContainer, service: &Service) -> bool {
    match container.state {
        ContainerState::Running { .. } => differ(container, service).next().is_none(),
        ContainerState::Exited { .. } => differ(container, service).all(swapped),
        ContainerState::Created | ContainerState::Orphaned { .. } | ContainerState::StartFailed { .. } => true,
    }
}

/// Whoever is started is given what the file says, at each place that the file still has; and nothing that nobody says.
pub(super) fn check_start(world: &World, spec: &ContainerSpec) {
    let service = wanted(world, &spec.slot);
    for given in &spec.service.files {
        let content = given.content.as_ref().expect("something is started without what its files hold");
        let defined = service.and_then(|service| service.files.iter().find(|file| file.target == given.target));
        let defined = defined.expect("something is started with a file that nobody defines");
        assert_eq!(defined.content.as_ref(), Some(content), "something is started with what its file held before");
        assert_eq!(defined.fingerprint, given.fingerprint, "a content is taken for another one");
    }
}

/// What is given to a container as it is: what it holds where that is swapped, and no other content.
pub(super) fn check_update(before: &ObservedContainer, spec: &ContainerSpec, service: &Service) {
    for file in &spec.service.files {
        let find = |files: &[MountedFile]| files.iter().find(|other| other.target == file.target).cloned();
        let (made, asked) = (find(&before.spec.service.files), find(&service.files));
        let (made, asked) = (made.expect("one that it has"), asked.expect("one that the file has"));
        let swapped = swapped(&asked) && matches!(before.state, ContainerState::Running { .. });
        let expected = if swapped { &asked.fingerprint } else { &made.fingerprint };
        assert_eq!(file.fingerprint, *expected, "it is recorded to hold what it does not hold");
        assert!(!swapped || file.content == asked.content, "it is not given what its file holds");
    }
}

/// As a record has them.
pub(in crate::plan) fn recorded(files: &[MountedFile]) -> Vec<MountedFile> {
    files.iter().map(MountedFile::without_content).collect()
}
