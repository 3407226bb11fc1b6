//! What the reconciler tells of services: with the folder as it is on disk, and a host that is only seen.

use std::collections::BTreeMap;
use std::path::Path;

use super::describe::Surroundings;
use super::host::Gauges;
use super::view::{Phase, View};
use super::{ActionError, Ledger, Reconciler};
use crate::model::{
    Ability, Action, Attached, Attachment, Cidr, ContainerState, Digest, Driver, Exposure, Join, Key, Link, Location,
    Membership, Network, NetworkId, NetworkMode, NetworkName, ObservedContainer, ObservedNetwork, Port, ProcessId,
    ProjectName, Protocol, Published, ServiceName, Severity, Timestamp,
};
use crate::plan::{ImageFacts, Limits, Memory, Observed, WaitingOn};
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

#[test]
fn a_service_that_is_not_chosen_is_told_and_holds_nothing_up() {
    let mut reconciler = read(
        "services:\n  tool: {image: b, network_mode: none, profiles: [debug, more]}\n  web: {image: b, network_mode: none, x-longshore: {suspend: true}}\n",
    );
    drop(reconciler.step(Observed::default(), Timestamp(2)));
    let seen = view(&reconciler);
    let tool = &seen.projects[0].services[0];
    let reasons: Vec<&str> = tool.waiting.iter().map(|wait| wait.reason.as_str()).collect();
    assert_eq!(reasons, ["not chosen: it asks for the profile `debug` or `more`"]);
    assert_eq!((tool.phase, tool.wanted, seen.projects[0].phase), (Phase::Applied, 0, Phase::Applied));
    assert!(seen.settled);
    let order = super::Order { name: "tool".to_owned(), verb: super::Verb::Start };
    let (answer, _) = reconciler.obey(&[order], Timestamp(3));
    let Err(super::Disobeyed::Refused { message, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(message, "a/tool is not chosen: it asks for the profile debug or more");
}

#[test]
fn what_is_asked_by_hand_is_part_of_what_happened() {
    let mut reconciler = read("services:\n  web: {image: b, network_mode: none}\n");
    let (project, service) = (ProjectName::parse("a").unwrap(), ServiceName::parse("web").unwrap());
    for verb in [super::Verb::Stop { grace_ms: None }, super::Verb::Start, super::Verb::Scale { replicas: 3 }] {
        let order = super::Order { name: "a/web".to_owned(), verb };
        reconciler.obey(&[order], Timestamp(3)).0.unwrap();
    }
    let causes = reconciler.causes_of(&project, &service).unwrap();
    let told: Vec<String> = causes.iter().map(|c| format!("{} {}: {}", c.kind.as_str(), c.subject, c.text)).collect();
    assert_eq!(
        told,
        [
            "edited a.yaml: the file came into force",
            "asked a/web: stopped by hand",
            "asked a/web: started by hand",
            "asked a/web: 3 replicas by hand, 1 by its file",
        ]
    );
}

fn network() -> Network {
    Network {
        name: NetworkName::parse("a_default").unwrap(),
        driver: Driver::Bridge,
        internal: false,
        ipv4: true,
        ipv6: false,
        pools: Vec::new(),
        mtu: None,
        bridge: None,
        labels: BTreeMap::new(),
        location: Location::whole("a.yaml"),
    }
}

/// One service on a network, with a port of its file, and what is seen once it runs.
fn on_a_network() -> (Reconciler, Observed) {
    let mut reconciler = read("services:\n  web:\n    image: b\n    network_mode: none\n");
    let name = network().name;
    let join = Join {
        network: name.clone(),
        aliases: Vec::new(),
        ipv4: None,
        ipv6: None,
        link_local: Vec::new(),
        mac: None,
        interface: None,
        gateway_priority: 0,
    };
    let port = Port {
        address: None,
        host: Some((8080, 8080)),
        target: 80,
        protocol: Protocol::Tcp,
        name: None,
        location: Location::whole("a.yaml"),
    };
    let project = reconciler.desired.projects.values_mut().next().unwrap();
    project.networks.insert(name.clone(), network());
    let service = project.services.values_mut().next().unwrap();
    let membership = Membership { joins: vec![join], ports: vec![port], ..Membership::default() };
    service.network = NetworkMode::Networks(Box::new(membership));
    let digest = Digest::parse(&format!("sha256:{}", "0".repeat(64))).unwrap();
    let facts = ImageFacts {
        digest,
        platform: String::new(),
        asked_ago_ms: None,
        idle_ms: 0,
        bytes: 1,
        disk_bytes: 1,
        pinned: false,
    };
    let images = BTreeMap::from([(service.image.clone().unwrap(), facts)]);
    let mut observed = Observed { images, ..Observed::default() };
    let (steps, _) = reconciler.step(observed.clone(), Timestamp(2));
    let spec = steps.iter().find_map(|step| match &step.action {
        Action::Create { spec } => Some((**spec).clone()),
        _ => None,
    });
    let (spec, id) = (spec.unwrap(), NetworkId::derive(&network()));
    assert_eq!(
        view(&reconciler).under_way.iter().map(|step| step.verb).collect::<Vec<_>>(),
        ["create", "make network"]
    );
    assert!(reconciler.finished(&Key::Container(spec.id.clone()), Ok(()), Timestamp(2)).events.len() == 1);
    let made = reconciler.finished(&Key::Network(id.clone()), Ok(()), Timestamp(2));
    assert_eq!((made.events[0].kind, &*made.events[0].what), ("network.made", "a_default"));
    let link = Attachment {
        network: id.clone(),
        name,
        link: Link::Bridge { bridge: "ls-1".to_owned(), port: "lv1".to_owned() },
        interface: "eth0".to_owned(),
        mac: None,
        addresses: vec![Cidr::parse("172.30.0.2/24").unwrap()],
        gateways: Vec::new(),
        mtu: 1500,
        internal: false,
    };
    let published =
        Published { address: None, port: 8080, target: 80, protocol: Protocol::Tcp, exposure: Exposure::HostFirewall };
    let attached = Attached { links: vec![link], published: vec![published], ..Attached::default() };
    observed.attached.insert(spec.id.clone(), attached);
    let process = ProcessId { pid: 7, start_ticks: 7 };
    let state = ContainerState::Running { init: process, shim: process, since: Timestamp(2) };
    observed.containers.insert(spec.id.clone(), ObservedContainer { spec, state });
    let interface = Some("ls-1".to_owned());
    let subnets = vec![Cidr::parse("172.30.0.0/24").unwrap()];
    let network = ObservedNetwork { network: network(), subnets, gateways: Vec::new(), interface, broken: None };
    observed.networks.insert(id, network);
    (reconciler, observed)
}

#[test]
fn networks_are_shown_with_who_is_on_them_and_who_reaches_a_port() {
    let (mut reconciler, observed) = on_a_network();
    let coming = view(&reconciler);
    let ports = &coming.projects[0].services[0].ports;
    assert_eq!((ports.len(), ports[0].host, ports[0].outside()), (1, Some((8080, 8080)), true));
    reconciler.step(observed, Timestamp(3));
    let seen = view(&reconciler);
    assert_eq!((seen.networks.len(), seen.networks[0].members.len(), seen.settled), (1, 1, true));
    assert_eq!(seen.networks[0].members[0].addresses[0].to_string(), "172.30.0.2/24");
    let container = &seen.projects[0].services[0].containers[0];
    assert_eq!((container.links.len(), container.ports.len()), (1, 1));
}

#[test]
fn a_repair_that_fails_is_told_and_is_no_settled_state() {
    let (mut reconciler, mut observed) = on_a_network();
    let id = NetworkId::derive(&network());
    observed.networks.get_mut(&id).unwrap().broken = Some("its bridge ls-1 is gone".to_owned());
    let (steps, _) = reconciler.step(observed.clone(), Timestamp(3));
    assert_eq!(steps[0].reason, "its bridge ls-1 is gone");
    let error = ActionError { message: "no permission".to_owned(), retry_after_ms: None };
    let noted = reconciler.finished(&Key::Network(id.clone()), Err(error), Timestamp(4));
    assert_eq!(noted.events[0].kind, "network.failed");
    reconciler.step(observed, Timestamp(5));
    let seen = view(&reconciler);
    let waits: Vec<_> = seen.waiting.iter().map(|wait| format!("{}: {}", wait.what, wait.reason)).collect();
    assert_eq!(waits, ["network a_default: make network failed once: no permission"]);
    assert_eq!((seen.settled, seen.projects[0].phase), (false, Phase::Applied));
    let words = |on| reconciler.wait_reason(&on);
    let (name, after) = (network().name, None);
    assert_eq!(
        words(WaitingOn::Network { id, name: name.clone(), after }),
        "network a_default is not up: attempt 1 failed: no permission"
    );
    assert_eq!(
        words(WaitingOn::NoNetwork(name)),
        "network a_default is external and no state file defines it; define it in one: networks: {a_default: {name: a_default}}"
    );
}

#[test]
fn a_restart_that_is_numbered_is_counted_before_it_is_begun() {
    for (restart, counted) in [("on-failure:2", Some(1)), ("on-failure", None), ("always", None)] {
        let (mut reconciler, mut observed) = on_a_network();
        let policy = crate::model::RestartPolicy::OnFailure { max: Some(2) };
        let service = &mut observed.containers.values_mut().next().unwrap().spec.service;
        service.restart = match restart {
            "on-failure:2" => policy,
            "on-failure" => crate::model::RestartPolicy::OnFailure { max: None },
            _ => crate::model::RestartPolicy::Always,
        };
        let service = service.clone();
        reconciler.desired.projects.values_mut().next().unwrap().services.values_mut().next().unwrap().restart =
            service.restart;
        let container = observed.containers.values_mut().next().unwrap();
        let status = crate::model::ExitStatus::Code(3);
        container.state = ContainerState::Exited { status, started: Timestamp(2), at: Timestamp(3) };
        let key = Key::Container(container.spec.id.clone());
        reconciler.step(observed.clone(), Timestamp(4));
        let (steps, _) = reconciler.step(observed, Timestamp(600));
        assert!(matches!(steps[0].action, Action::Start { .. }), "{restart}: {steps:?}");
        let count = |change: Option<super::host::Change>| match change {
            Some(super::host::Change::History { restarts, .. }) => Some(restarts.total),
            _ => None,
        };
        assert_eq!(count(reconciler.before(&key)), counted, "{restart}");
        let error = ActionError { message: "no".to_owned(), retry_after_ms: None };
        let noted = reconciler.finished(&key, Err(error), Timestamp(601));
        let taken_back = noted.records.into_iter().find_map(|change| count(Some(change)));
        assert_eq!(taken_back, counted.map(|_| 0), "{restart}");
    }
}
