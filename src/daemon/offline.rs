//! `check` and `plan` without a daemon: the same rooms, asked once.

use std::collections::BTreeMap;
use std::path::Path;

use super::config::{Config, Flags};
use crate::cli::{Change, CheckReport, CheckedProject, CheckedService};
use crate::model::{Location, Problem, Service, Settings, Timestamp};
use crate::plan::{Limits, Memory};
use crate::reconcile::{Ledger, Reconciler};
use crate::source::{Defaults, GoodFile, Look, Looker, Read};

/// As the daemon's configuration says, where there is one.
fn defaults() -> Defaults {
    Config::load(&Flags::default()).map_or_else(|_| Defaults::default(), |config| config.defaults())
}

/// Reads a folder, or one state file.
#[must_use]
pub fn check(path: &Path) -> CheckReport {
    check_in(path, &defaults())
}

fn check_in(path: &Path, defaults: &Defaults) -> CheckReport {
    let absolute = match std::path::absolute(path) {
        Ok(path) => path,
        Err(error) => return failed(path, &error.to_string()),
    };
    if absolute.is_dir() {
        return report(&Looker::new(&absolute).with_defaults(defaults.clone()).look(), None);
    }
    let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return failed(path, "it is neither a folder nor a file");
    };
    if std::fs::symlink_metadata(&absolute).is_err() {
        return failed(path, "it does not exist");
    }
    report(&Looker::new(folder).with_defaults(defaults.clone()).look_at_one(Path::new(name)), Some(path))
}

fn failed(path: &Path, message: &str) -> CheckReport {
    let problems = vec![Problem::error(Location::whole(path), message)];
    CheckReport { problems, ..CheckReport::default() }
}

fn report(look: &Look, only: Option<&Path>) -> CheckReport {
    let mut report = CheckReport::default();
    if let Err(reason) = &look.folder {
        report.problems.push(Problem::error(Location::whole(only.unwrap_or(Path::new("."))), reason.clone()));
    }
    // The reconciler's own eyes: what is in conflict between files is seen as the daemon would see it.
    let mut reconciler = Reconciler::new(Ledger::default(), Memory::default(), BTreeMap::new(), Limits::default());
    drop(reconciler.looked(look, Timestamp::default()));
    report.problems.extend(reconciler.problems());
    let left_out = |file: &GoodFile| !reconciler.desired().projects.contains_key(&file.document.project.name);
    for (path, read) in &look.files {
        let Read::Good(file) = read else { continue };
        if left_out(file) {
            report.problems.extend(file.document.warnings.iter().cloned());
        }
        let project = &file.document.project;
        let checked = |service: &Service| CheckedService {
            name: service.name.clone(),
            hash: service.hash.clone(),
            replicas: if service.holds.is_empty() { service.replicas } else { 0 },
            settings: Settings::of(service),
            loosenings: service.loosenings.clone(),
        };
        let services = project.services.values().map(checked).collect();
        report.projects.push(CheckedProject { name: project.name.clone(), file: path.clone(), services });
    }
    report.whole_folder = only.is_none();
    report
}

mod planning {
    use super::{Change, Look, Path, defaults};
    use crate::cli::PlanReport;
    use crate::container::peek;
    use crate::daemon::remember;
    use crate::image::Images;
    use crate::plan::{Limits, Observed};
    use crate::source::{Defaults, Looker, Unopened};

    /// What the daemon would do first if it were started on these folders now. Reads only.
    #[must_use]
    pub fn plan(state_dir: &Path, data_dir: &Path) -> PlanReport {
        match observe(data_dir) {
            Ok(observed) => planned(state_dir, &observed, &defaults()),
            Err(failure) => PlanReport { failure: Some(failure), ..PlanReport::default() },
        }
    }

    fn observe(data_dir: &Path) -> Result<Observed, String> {
        let containers = peek(data_dir).map_err(|e| format!("{}: {e}", data_dir.display()))?;
        let images = Images::peek(&data_dir.join("images")).map_err(|e| format!("{}: {e}", data_dir.display()))?;
        Ok(crate::host::join(images, containers))
    }

    fn planned(state_dir: &Path, observed: &Observed, defaults: &Defaults) -> PlanReport {
        let look: &Look = &Looker::new(state_dir).with_defaults(defaults.clone()).look();
        let now = crate::model::Timestamp::default();
        let mut reconciler = remember::reconciler(
            &Default::default(),
            observed,
            state_dir,
            Limits::default(),
            None,
            defaults,
            &Unopened,
        );
        let failure = look.folder.clone().err();
        // Nothing is remembered here; what the files do not name is taken for removed.
        drop(reconciler.looked(look, now));
        let (steps, _) = reconciler.step(observed.clone(), now);
        let changes = steps.iter().map(|step| Change {
            verb: step.action.verb().to_owned(),
            what: step.slot.as_ref().map_or_else(|| step.action.key().to_string(), ToString::to_string),
            reason: step.reason.clone(),
        });
        PlanReport { changes: changes.collect(), waiting: reconciler.waits(), problems: reconciler.problems(), failure }
    }
}

pub use planning::plan;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_registry_is_of_the_default_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        let hub = Defaults::default().registry;
        let hash = |image: &str, registry: &str| {
            std::fs::write(&path, format!("services:\n  a:\n    image: {image}\n    network_mode: none\n")).unwrap();
            let report = check_in(&path, &Defaults { registry: registry.to_owned(), ..Defaults::default() });
            assert_eq!(report.problems, []);
            report.projects[0].services[0].hash.clone()
        };
        assert_eq!(hash("x/y", "lab.example:5000"), hash("lab.example:5000/x/y", &hub));
        assert_ne!(hash("x/y", "lab.example:5000"), hash("x/y", &hub));
    }
}
