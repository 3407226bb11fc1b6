//! Generations with a folder on disk, a host that does at once what it is told, and a disk that may lose what was not written.

use std::collections::BTreeMap;

use super::{Answer, Book, Generations, Outcome, Question, ServiceKey, SourceId, Wish};
use crate::model::{
    Action, ContainerState, Digest, FailureAction, ImageReference, Moment, ObservedContainer, ProcessId, ProjectName,
    ServiceName, Timestamp,
};
use crate::plan::{ImageFacts, Limits, Memory, Observed, Rollout, Version};
use crate::reconcile::host::Change;
use crate::reconcile::{Ledger, Reconciler};
use crate::source::{GoodFile, Looker};

struct Toy {
    folder: tempfile::TempDir,
    reconciler: Reconciler,
    observed: Observed,
    /// What the registry has.
    registry: BTreeMap<ImageReference, Digest>,
    disk: (BTreeMap<ServiceKey, Book>, BTreeMap<SourceId, GoodFile>),
    now: u64,
    /// The disk takes nothing.
    full: bool,
    moment: Moment,
}

fn key() -> ServiceKey {
    (ProjectName::parse("a").unwrap(), ServiceName::parse("web").unwrap())
}

fn digest(of: &str) -> Digest {
    Digest::parse(&format!("sha256:{}", crate::model::SpecHash::of(of.as_bytes()))).unwrap()
}

fn file(image: &str, more: &str) -> String {
    format!("services:\n  web:\n    image: r.example/{image}\n    network_mode: none\n{more}")
}

fn new(ledger: Ledger, generations: Generations) -> Reconciler {
    let memory = Memory::default();
    Reconciler::new(ledger, memory, BTreeMap::new(), Limits::default()).going_back(generations)
}

impl Toy {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut toy = Self {
            folder,
            reconciler: new(Ledger::default(), Generations::default()),
            observed: Observed { machine: "linux/amd64".to_owned(), ..Observed::default() },
            registry: BTreeMap::new(),
            disk: Default::default(),
            now: 1_000,
            full: false,
            moment: Moment::default(),
        };
        toy.put(text);
        toy
    }

    fn put(&mut self, text: &str) {
        std::fs::write(self.folder.path().join("a.yaml"), text).unwrap();
        self.look();
    }

    fn look(&mut self) {
        self.now += 1_000;
        let look = Looker::new(self.folder.path()).look();
        self.reconciler.looked(&look, Timestamp(self.now));
        self.settle();
    }

    fn push(&mut self, image: &str, of: &str) {
        self.registry.insert(ImageReference::parse(&format!("r.example/{image}")).unwrap(), digest(of));
    }

    /// Until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..60 {
            if !self.turn() {
                return;
            }
        }
        panic!("it does not settle: {:?}", self.reconciler.waits());
    }

    fn turn(&mut self) -> bool {
        self.now += 10;
        let now = Timestamp(self.now);
        let (questions, ..) = self.reconciler.automatic(self.moment, now);
        for (key, question) in questions {
            let answer = match &question {
                Question::Tags { image } => {
                    let mine = self.registry.keys().filter(|known| known.repository() == image.repository());
                    Answer::Tags(mine.filter_map(|known| known.tag().map(str::to_owned)).collect())
                }
                Question::Moved { image, .. } => {
                    let here = self.observed.images.get(image).map(|facts| &facts.digest);
                    Answer::Moved(self.registry.get(image).filter(|there| here != Some(*there)).cloned())
                }
            };
            self.reconciler.answered(&key, &question, Ok(answer), now);
        }
        let (steps, _) = self.reconciler.step(self.observed.clone(), now);
        let busy = !steps.is_empty();
        for step in steps {
            self.perform(&step.action);
            self.reconciler.finished(&step.action.key(), Ok(()), now);
        }
        let saved = !self.full && self.save();
        busy || saved
    }

    fn save(&mut self) -> bool {
        let changes = self.reconciler.generation_changes();
        let any = !changes.is_empty();
        for change in changes {
            match change {
                Change::Generations { project, service, book, .. } => {
                    drop(self.disk.0.insert((project, service), *book));
                }
                Change::Source { id, source, .. } => {
                    let path = std::path::Path::new("a.yaml");
                    let document = crate::source::read_again(
                        path,
                        &source,
                        &crate::source::Defaults::default(),
                        &crate::source::Unopened,
                    )
                    .unwrap();
                    self.disk.1.insert(id, GoodFile { document, source });
                }
                Change::SourceGone(id) => drop(self.disk.1.remove(&id)),
                _ => {}
            }
        }
        self.reconciler.recorded(Timestamp(self.now));
        any
    }

    fn perform(&mut self, action: &Action) {
        let now = Timestamp(self.now);
        match action {
            Action::Pull { image, .. } => {
                let found = match image.digest() {
                    Some(digest) => digest.clone(),
                    None => self.registry.get(image).expect("it is in the registry").clone(),
                };
                let facts = |digest| ImageFacts {
                    digest,
                    platform: "linux/amd64".to_owned(),
                    asked_ago_ms: None,
                    idle_ms: 0,
                    bytes: 1,
                    disk_bytes: 1,
                    pinned: false,
                };
                let left = self.observed.images.insert(image.clone(), facts(found.clone()));
                for old in left.into_iter().filter(|old| old.digest != found) {
                    self.observed.images.insert(image.at(&old.digest.clone()), old);
                }
            }
            Action::Create { spec } => {
                let made = ObservedContainer { spec: (**spec).clone(), state: ContainerState::Created };
                self.observed.containers.insert(spec.id.clone(), made);
            }
            Action::Start { spec, .. } => {
                let process = ProcessId { pid: 1, start_ticks: 1 };
                let state = ContainerState::Running { init: process, shim: process, since: now };
                self.observed.containers.get_mut(&spec.id).expect("it is made").state = state;
            }
            Action::Stop { id, .. } => {
                let state = ContainerState::Exited { status: crate::model::ExitStatus::Code(0), started: now, at: now };
                self.observed.containers.get_mut(id).expect("it runs").state = state;
            }
            Action::Update { spec } => {
                self.observed.containers.get_mut(&spec.id).expect("it is here").spec = (**spec).clone();
            }
            Action::Remove { id } => drop(self.observed.containers.remove(id)),
            other => panic!("not expected: {other:?}"),
        }
    }

    /// What runs: image and digest.
    fn runs(&self) -> String {
        let all = self.observed.containers.values().filter(|c| c.state.alive());
        let each = all.map(|c| {
            let of = self.registry.iter().find(|(_, known)| **known == c.spec.image_digest);
            assert_eq!(c.spec.slot.service, key().1);
            format!(
                "{} {}",
                c.spec.image.tag().unwrap_or("-"),
                of.map_or_else(|| c.spec.image_digest.short().to_owned(), |_| "newest".to_owned())
            )
        });
        each.collect::<Vec<_>>().join(", ")
    }

    fn version(&self) -> Version {
        let container = self.observed.containers.values().find(|c| c.state.alive()).expect("one runs");
        Version { hash: container.spec.service.hash.clone(), digest: container.spec.image_digest.clone() }
    }

    fn fail(&mut self, then: FailureAction) {
        let failed = Rollout::Failed { version: self.version(), why: "exit code 1".to_owned(), then };
        self.reconciler.plan.rollouts.insert(key(), failed);
        let mut noted = Default::default();
        self.reconciler.note_generations(Timestamp(self.now), &mut noted);
    }

    /// kill -9, and a new daemon that has what is on the disk.
    fn killed(&mut self) {
        let good = {
            let look = Looker::new(self.folder.path()).look();
            let files = look.files.into_iter().filter_map(|(path, read)| match read {
                crate::source::Read::Good(file) => Some((path, *file)),
                _ => None,
            });
            files.collect()
        };
        let (books, sources) = self.disk.clone();
        self.reconciler =
            new(Ledger::remembered(good, Default::default(), None), Generations::remembered(books, sources));
        self.look();
    }

    fn outcomes(&self) -> Vec<&'static str> {
        let book = self.reconciler.generations.book(&key()).unwrap();
        let word = |outcome: &Outcome| match outcome {
            Outcome::UnderWay => "under way",
            Outcome::Good(_) => "good",
            Outcome::Failed { .. } => "failed",
            Outcome::Replaced(_) => "replaced",
        };
        book.generations.iter().map(|g| word(&g.outcome)).collect()
    }

    fn wish(&mut self, wish: &Wish) -> Result<Vec<String>, String> {
        let (answer, _) = self.reconciler.wish(&key().0, Some(&key().1), wish, Timestamp(self.now));
        self.settle();
        answer
    }

    fn aside(&self) -> Option<String> {
        self.reconciler.aside_view(&key()).map(|view| view.text)
    }
}

/// Version 1, then 2.
fn two() -> Toy {
    let mut toy = Toy::new("services: {}\n");
    for version in ["web:1", "web:2", "web:3"] {
        toy.push(version, version);
    }
    toy.put(&file("web:1", ""));
    assert_eq!(toy.runs(), "1 newest");
    toy.put(&file("web:2", ""));
    assert_eq!((toy.runs().as_str(), toy.outcomes()), ("2 newest", vec!["good", "good"]));
    toy
}

#[test]
fn by_hand_one_goes_back_and_forward_again() {
    let mut toy = two();
    let said = toy.wish(&Wish::Back(None)).unwrap();
    assert_eq!(said, ["a/web: back to generation 1; `longshore resume a/web` runs the file's version again"]);
    assert_eq!(toy.runs(), "1 newest");
    assert_eq!(
        toy.aside().unwrap(),
        "rolled back to generation 1; the file's version (r.example/web:2) is set aside: its owner went back; `longshore resume a/web` tries it again"
    );
    toy.killed();
    assert_eq!(toy.runs(), "1 newest", "a new daemon keeps to it");
    assert!(toy.wish(&Wish::Back(Some(7))).unwrap_err().contains("has no generation 7"));
    assert!(toy.wish(&Wish::Back(Some(2))).unwrap_err().contains("is what its file asks for"));
    toy.wish(&Wish::Resume).unwrap();
    assert_eq!((toy.runs().as_str(), toy.aside()), ("2 newest", None));
    assert!(toy.wish(&Wish::Resume).unwrap_err().contains("nothing is set aside"));
}

#[test]
fn another_version_in_the_file_is_tried_and_an_edit_that_changes_nothing_is_not() {
    let mut toy = two();
    toy.wish(&Wish::Back(None)).unwrap();
    toy.put(&format!("# a comment\n{}", file("web:2", "")));
    assert_eq!(toy.runs(), "1 newest");
    // What is no part of the hash counts too.
    toy.put(&file("web:2", "    labels: {a: b}\n"));
    assert_eq!((toy.runs().as_str(), toy.aside()), ("2 newest", None));
    toy.wish(&Wish::Back(None)).unwrap();
    toy.put(&file("web:3", ""));
    assert_eq!((toy.runs().as_str(), toy.outcomes()), ("3 newest", vec!["good", "good", "good"]));
}

#[test]
fn a_version_that_failed_is_not_tried_again_by_itself() {
    let mut toy = two();
    toy.fail(FailureAction::Rollback);
    toy.settle();
    assert_eq!((toy.runs().as_str(), toy.outcomes()), ("1 newest", vec!["good", "failed"]));
    assert!(toy.aside().unwrap().contains("set aside: exit code 1"));
    toy.look();
    toy.killed();
    assert_eq!((toy.runs().as_str(), toy.outcomes()), ("1 newest", vec!["good", "failed"]));
    assert_eq!(toy.reconciler.memory.set_aside[&key()].then, FailureAction::Rollback);
    toy.wish(&Wish::Resume).unwrap();
    assert_eq!((toy.runs().as_str(), toy.outcomes()), ("2 newest", vec!["good", "good"]));
}

#[test]
fn nothing_acts_before_it_is_on_disk() {
    let mut toy = two();
    toy.full = true;
    toy.fail(FailureAction::Rollback);
    toy.settle();
    assert_eq!(
        (toy.runs().as_str(), toy.aside()),
        ("2 newest", None),
        "nothing is done that a killed daemon would not know"
    );
    toy.full = false;
    toy.settle();
    assert_eq!(toy.runs(), "1 newest");
}

#[test]
fn without_a_good_one_nothing_is_gone_back_to() {
    let mut toy = Toy::new("services: {}\n");
    toy.push("web:1", "one");
    std::fs::write(toy.folder.path().join("a.yaml"), file("web:1", "")).unwrap();
    toy.look();
    // As if it had never been proven.
    toy.reconciler.generations.write(&key()).generations[0].outcome = Outcome::UnderWay;
    toy.fail(FailureAction::Rollback);
    toy.settle();
    assert!(toy.aside().unwrap().contains("no good generation to go back to"));
    assert_eq!(toy.runs(), "1 newest");
}

#[test]
fn a_moved_tag_is_a_generation_and_one_that_failed_waits_for_the_next() {
    let mut toy = Toy::new("services: {}\n");
    toy.push("web:1", "one");
    let text = file("web:1", "    pull_policy: every_5s\n");
    toy.put(&text);
    let first = toy.version();
    toy.push("web:1", "two");
    toy.now += 6_000;
    toy.settle();
    assert_ne!(toy.version(), first);
    toy.fail(FailureAction::Rollback);
    toy.settle();
    assert_eq!(toy.version(), first, "back on the manifest, whatever the tag stands for");
    toy.now += 6_000;
    toy.settle();
    assert_eq!(toy.version(), first);
    toy.push("web:1", "three");
    toy.now += 6_000;
    toy.settle();
    assert_eq!((toy.runs().as_str(), toy.aside()), ("1 newest", None));
    assert_eq!(toy.outcomes(), ["good", "failed", "good"]);
    let book = toy.reconciler.generations.book(&key()).unwrap();
    assert!(book.generations[2].why.starts_with("image r.example/web:1 moved from"), "{}", book.generations[2].why);
}

#[test]
fn versions_in_the_range_are_taken_in_the_window_and_never_a_lower_one() {
    let more = "    x-longshore: {update: {policy: ~1.2, window: '02:00-05:00', interval: 10s}}\n";
    let mut toy = Toy::new("services: {}\n");
    for tag in ["1.2.0", "1.2.4", "1.2.10", "1.3.0", "1.2.11-rc.1"] {
        toy.push(&format!("web:{tag}"), tag);
    }
    toy.put(&file("web:1.2.0", more));
    assert_eq!(toy.runs(), "1.2.0 newest");
    toy.now += 1_000;
    toy.settle();
    let note = toy.reconciler.update_note(&key()).unwrap();
    assert_eq!(note, "r.example/web:1.2.10 is there; it waits for the window 02:00-05:00");
    toy.moment = Moment { day: 2, minute: 180 };
    toy.settle();
    toy.settle();
    assert_eq!(toy.runs(), "1.2.10 newest");
    toy.registry.retain(|image, _| image.tag() != Some("1.2.10"));
    toy.now += 11_000;
    toy.settle();
    toy.killed();
    assert!(toy.version().digest == digest("1.2.10"), "no lower one, and the same after a restart");
    // It fails; the next one is taken all the same.
    toy.fail(FailureAction::Rollback);
    toy.settle();
    assert_eq!(toy.runs(), "1.2.0 newest");
    toy.now += 11_000;
    toy.settle();
    assert_eq!(toy.runs(), "1.2.0 newest", "not again");
    toy.push("web:1.2.12", "1.2.12");
    toy.now += 11_000;
    toy.settle();
    toy.settle();
    assert_eq!((toy.runs().as_str(), toy.aside()), ("1.2.12 newest", None));
}

#[test]
fn a_digest_is_taken_in_the_window_only() {
    let more = "    x-longshore: {update: {policy: digest, window: '02:00-05:00', interval: 10s}}\n";
    let mut toy = Toy::new("services: {}\n");
    toy.push("web:1", "one");
    toy.put(&file("web:1", more));
    let first = toy.version();
    toy.push("web:1", "two");
    toy.now += 11_000;
    toy.settle();
    assert_eq!(toy.version(), first);
    assert!(toy.reconciler.update_note(&key()).unwrap().contains("it waits for the window 02:00-05:00"));
    toy.moment = Moment { day: 0, minute: 121 };
    toy.now += 11_000;
    toy.settle();
    assert_eq!((toy.runs().as_str(), toy.reconciler.update_note(&key())), ("1 newest", None));
}

#[test]
fn the_oldest_are_forgotten_but_never_the_last_good_one() {
    let mut toy = two();
    toy.push("web:4", "web:4");
    for tag in ["web:3", "web:4"] {
        toy.put(&file(tag, "    x-longshore: {keep_generations: 2}\n"));
    }
    let numbers = |toy: &Toy| -> Vec<u32> {
        toy.reconciler.generations.book(&key()).unwrap().generations.iter().map(|g| g.number).collect()
    };
    assert_eq!(numbers(&toy), [3, 4]);
    assert_eq!(toy.disk.1.len(), 2, "files that no generation refers to are not kept");
    // Two that fail do not push it out.
    for text in ["    labels: {a: b}\n", "    hostname: x\n", "    hostname: y\n"] {
        toy.put(&file("web:4", &format!("{text}    x-longshore: {{keep_generations: 1}}\n")));
        toy.reconciler.generations.write(&key()).generations.last_mut().unwrap().outcome = Outcome::UnderWay;
        toy.fail(FailureAction::Continue);
    }
    assert!(toy.outcomes().contains(&"good"), "{:?} {:?}", toy.outcomes(), numbers(&toy));
}

#[test]
fn how_two_generations_differ_without_what_may_be_secret() {
    let mut toy = two();
    toy.put(&file("web:3", "    environment: {PASSWORD: hunter2}\n    restart: always\n"));
    let (project, service) = key();
    let found = toy.reconciler.compare(&project, &service, 2, None).unwrap();
    let lines: Vec<String> = found.edits.iter().map(ToString::to_string).collect();
    assert!(!lines.join("\n").contains("hunter2"), "{lines:?}");
    assert_eq!(lines[0], "a.yaml:3:image r.example/web:2 → r.example/web:3");
    assert!(lines.iter().any(|line| line == "a.yaml:6:restart added: always"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("a.yaml:image digest sha256:")), "{lines:?}");
    assert!(toy.reconciler.compare(&project, &service, 9, None).unwrap_err().contains("no generation 9"));
}
