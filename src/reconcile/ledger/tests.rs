use super::*;
use crate::model::{NetworkMode, Process, Project, PullPolicy, RestartPolicy, Service, SpecHash, StopPolicy};
use crate::source::Remembered;
use crate::spec::Document;

fn file(project: &str, version: u32) -> Read {
    let name = ProjectName::parse(project).unwrap();
    let service = ServiceName::parse("web").unwrap();
    let web = Service {
        name: service.clone(),
        image: None,
        platform: None,
        pull: PullPolicy::Missing,
        replicas: 1,
        container_name: None,
        process: Process::default(),
        hostname: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        restart: RestartPolicy::No,
        stop: StopPolicy { signal: None, grace_ms: 0 },
        network: NetworkMode::None,
        read_only: false,
        hold_port: false,
        mounts: Vec::new(),
        pace: Default::default(),
        health: Default::default(),
        required_mounts: Vec::new(),
        depends: Vec::new(),
        schedule: None,
        hooks: crate::model::Hooks::default(),
        files: Vec::new(),
        names: Default::default(),
        isolation: Default::default(),
        resources: Default::default(),
        pinned: None,
        taking: Default::default(),
        loosenings: Vec::new(),
        suspended: false,
        wishes: Vec::new(),
        holds: Vec::new(),
        hash: SpecHash::of(&version.to_be_bytes()),
    };
    let project = Project {
        name,
        file: "x".into(),
        services: BTreeMap::from([(service, web)]),
        networks: BTreeMap::new(),
        unchosen: BTreeMap::new(),
        volumes: BTreeMap::new(),
    };
    let document = Document { project, warnings: Vec::new(), references: Vec::new() };
    let source = Remembered { default_name: String::new(), text: version.to_string(), references: Vec::new() };
    Read::Good(Arc::new(GoodFile { document, source }))
}

fn broken() -> Read {
    Read::Refused(vec![Problem::error(Location::at("a.yaml", 3, 1), "broken")])
}

struct Folder {
    ledger: Ledger,
    files: BTreeMap<PathBuf, Read>,
    unlinked: BTreeSet<PathBuf>,
    unreadable: BTreeSet<PathBuf>,
    now: Timestamp,
}

impl Folder {
    fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            files: BTreeMap::new(),
            unlinked: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            now: Timestamp(1),
        }
    }
    fn with(mut self, count: usize) -> Self {
        for n in 0..count {
            self.put(&format!("p{n}.yaml"), file(&format!("p{n}"), 1));
        }
        self.look();
        self
    }
    fn put(&mut self, path: &str, read: Read) {
        self.files.insert(path.into(), read);
    }
    fn unlink(&mut self, path: &str) {
        self.files.remove(Path::new(path));
        self.unlinked.insert(path.into());
    }
    fn look_with(&mut self, folder: Result<crate::source::FolderId, String>) -> Changes {
        let look = Look {
            folder,
            files: self.files.clone(),
            warnings: Vec::new(),
            unreadable: self.unreadable.clone(),
            unlinked: self.unlinked.clone(),
        };
        self.ledger.absorb(&look, self.now)
    }
    fn look(&mut self) -> Changes {
        let id = crate::source::FolderId::default();
        self.look_with(Ok(id))
    }
    fn look_later(&mut self) -> Changes {
        self.look();
        self.now = self.now.plus_ms(ABSENT_MS);
        self.look()
    }
    fn projects(&mut self) -> Vec<String> {
        self.ledger.desired().projects.keys().map(ToString::to_string).collect()
    }
}

#[test]
fn a_broken_file_keeps_its_last_good_version() {
    let mut folder = Folder::new().with(2);
    folder.put("p0.yaml", broken());
    assert_eq!(folder.look(), Changes::default());
    assert_eq!(folder.projects(), ["p0", "p1"]);
    assert!(folder.ledger.is_last_good(Path::new("p0.yaml")));
    assert_eq!(folder.ledger.doubted().unwrap(), "what p0.yaml says now is not in force");
    assert!(folder.ledger.problems()[0].hint.as_ref().unwrap().contains("last good"));
    folder.put("p0.yaml", file("p0", 2));
    assert_eq!(folder.look().applied, [PathBuf::from("p0.yaml")]);
    assert!(folder.ledger.problems().is_empty());
    assert_eq!(folder.ledger.doubted(), None);
}

#[test]
fn a_removed_file_is_removed_after_a_moment_and_a_replaced_one_is_not() {
    let mut folder = Folder::new().with(2);
    folder.unlink("p0.yaml");
    let first = folder.look();
    assert!(first.removed.is_empty() && first.look_again);
    folder.put("p0.yaml", file("p0", 1));
    assert_eq!(folder.look_later(), Changes::default());
    folder.unlink("p0.yaml");
    assert_eq!(folder.look_later().removed, [PathBuf::from("p0.yaml")]);
    assert_eq!(folder.projects(), ["p1"]);
}

#[test]
fn a_slow_removal_of_most_files_blows_the_fuse_too() {
    let mut folder = Folder::new().with(10);
    for n in 0..8 {
        folder.unlink(&format!("p{n}.yaml"));
        folder.look();
        folder.now = folder.now.plus_ms(ABSENT_MS - 50);
    }
    assert_eq!(folder.look_later(), Changes::default());
    assert_eq!(folder.projects().len(), 10);
    assert!(folder.ledger.held().is_some());
    assert!(folder.ledger.doubted().unwrap().contains("`longshore confirm`"));
}

#[test]
fn an_endless_row_of_removals_is_followed() {
    let mut folder = Folder::new().with(100);
    for n in 0..40 {
        folder.unlink(&format!("p{n}.yaml"));
        folder.look();
        folder.now = folder.now.plus_ms(ABSENT_MS - 50);
    }
    assert!(folder.projects().len() < 90, "{}", folder.projects().len());
}

#[test]
fn the_only_file_is_removed_where_its_unlinking_was_seen() {
    let mut folder = Folder::new().with(1);
    folder.files.clear();
    folder.look_later();
    assert_eq!(folder.projects(), ["p0"], "nobody saw it go");
    assert!(folder.ledger.held().unwrap().reason.contains("suddenly empty"));
    folder.unlink("p0.yaml");
    folder.look_later();
    assert!(folder.projects().is_empty());
    assert_eq!(folder.ledger.held(), None);
}

#[test]
fn a_folder_that_vanished_changes_nothing() {
    let mut folder = Folder::new().with(3);
    folder.files.clear();
    folder.look_with(Err("gone".into()));
    folder.now = folder.now.plus_ms(100_000);
    folder.look_with(Err("gone".into()));
    assert_eq!(folder.projects().len(), 3);
    let held = folder.ledger.held().unwrap();
    assert!(!held.confirmable && held.since == Timestamp(1));
    assert!(folder.ledger.confirm().is_err());
}

#[test]
fn a_mass_removal_waits_for_its_owner() {
    let mut folder = Folder::new().with(5);
    for n in 0..3 {
        folder.unlink(&format!("p{n}.yaml"));
    }
    folder.look_later();
    assert_eq!(folder.projects().len(), 5);
    assert!(folder.ledger.held().unwrap().reason.starts_with("3 of 5 projects"));
    folder.ledger.confirm().unwrap();
    folder.look();
    assert_eq!(folder.projects(), ["p3", "p4"]);
    assert_eq!(folder.ledger.held(), None);
}

#[test]
fn a_mass_removal_is_forgotten_when_the_files_are_back() {
    let mut folder = Folder::new().with(5);
    let before = folder.files.clone();
    for n in 0..3 {
        folder.unlink(&format!("p{n}.yaml"));
    }
    folder.look_later();
    folder.files = before;
    assert_eq!(folder.look_later(), Changes::default());
    assert_eq!(folder.ledger.held(), None);
    folder.unlink("p0.yaml");
    assert_eq!(folder.look_later().removed.len(), 1);
}

#[test]
fn two_files_of_one_project_change_nothing() {
    let mut folder = Folder::new().with(1);
    folder.put("a.yaml", file("p0", 7));
    folder.put("p0.yaml", file("p0", 8));
    assert_eq!(folder.look(), Changes::default());
    assert_eq!(folder.ledger.problems().len(), 2, "told on both");
    let hash = folder.ledger.good(Path::new("p0.yaml")).unwrap().source.text.clone();
    assert_eq!(hash, "1");
    folder.files.remove(Path::new("a.yaml"));
    assert_eq!(folder.look().applied, [PathBuf::from("p0.yaml")]);
    let mut both_new = Folder::new();
    both_new.put("a.yaml", file("x", 1));
    both_new.put("b.yaml", file("x", 2));
    both_new.look();
    assert!(both_new.projects().is_empty());
}

#[test]
fn a_folder_that_cannot_be_listed_removes_nothing() {
    let mut folder = Folder::new();
    folder.put("shop/compose.yaml", file("shop", 1));
    folder.put("p.yaml", file("p", 1));
    folder.look();
    folder.files.remove(Path::new("shop/compose.yaml"));
    folder.unreadable.insert("shop".into());
    assert_eq!(folder.look_later(), Changes::default());
    assert_eq!(folder.projects(), ["p", "shop"]);
}

#[test]
fn a_moment_without_the_owner_does_not_give_its_project_to_the_other_file() {
    let mut folder = Folder::new().with(1);
    folder.put("other.yaml", file("p0", 7));
    folder.look();
    let owner = folder.files.remove(Path::new("p0.yaml")).unwrap();
    assert_eq!(folder.look().applied, Vec::<PathBuf>::new());
    folder.put("p0.yaml", owner);
    assert_eq!(folder.look_later(), Changes::default());
    assert_eq!(folder.ledger.good(Path::new("p0.yaml")).unwrap().source.text, "1");
}

#[test]
fn a_renamed_file_takes_its_project_along() {
    let mut folder = Folder::new().with(1);
    folder.unlink("p0.yaml");
    folder.put("q.yaml", file("p0", 1));
    let changes = folder.look();
    assert_eq!(changes.removed, [PathBuf::from("p0.yaml")]);
    assert_eq!(changes.applied, [PathBuf::from("q.yaml")]);
    assert_eq!(folder.projects(), ["p0"]);
}

#[test]
fn a_lost_database_removes_nothing_that_a_file_may_still_define() {
    let on_host: BTreeSet<_> = ["shop", "mail"].map(|n| ProjectName::parse(n).unwrap()).into();
    let mut folder = Folder::new();
    folder.ledger = Ledger::remembered(BTreeMap::new(), on_host, None);
    folder.look_later();
    assert_eq!(folder.ledger.desired().kept.len(), 2, "an empty folder says nothing");
    folder.put("shop.yaml", broken());
    folder.put("mail.yaml", file("mail", 1));
    folder.look_later();
    assert_eq!(folder.ledger.desired().kept.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop"]);
    folder.put("shop.yaml", file("other", 1));
    folder.look_later();
    assert!(folder.ledger.desired().kept.is_empty());
}

#[test]
fn a_container_name_belongs_to_the_service_that_had_it_first() {
    let named = |project: &str| {
        let Read::Good(mut good) = file(project, 1) else { unreachable!() };
        for service in Arc::make_mut(&mut good).document.project.services.values_mut() {
            service.container_name = Some(ContainerName::parse("db").unwrap());
        }
        Read::Good(good)
    };
    let mut folder = Folder::new();
    folder.put("b.yaml", named("b"));
    folder.look();
    assert!(folder.ledger.desired().projects.values().all(|p| p.services.values().all(|s| s.holds.is_empty())));
    folder.put("a.yaml", named("a"));
    folder.look();
    let desired = folder.ledger.desired();
    let held = |name: &str| {
        !desired.projects[&ProjectName::parse(name).unwrap()].services.values().next().unwrap().holds.is_empty()
    };
    assert!(held("a") && !held("b"));
}
