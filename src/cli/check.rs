//! `longshore check DIR|FILE`

use serde::Serialize;

use super::client::Client;
use super::failure::Failure;
use super::out::{Out, Paint};
use super::plan::{ChangeRecord, changes_table};
use super::report::{Change, CheckReport, CheckedService};
use super::words::printable;
use super::{Exit, problems, status};
use crate::api::wire::{Container, Loosening, Problem, Project, Status};
use crate::model::Settings;

#[derive(Serialize)]
struct Record {
    projects: Vec<ProjectRecord>,
    problems: Vec<Problem>,
    changes: Option<Vec<ChangeRecord>>,
}

#[derive(Serialize)]
struct ProjectRecord {
    name: String,
    file: String,
    services: Vec<String>,
    loosenings: Vec<LooseningRecord>,
}

#[derive(Serialize)]
struct LooseningRecord {
    service: String,
    #[serde(flatten)]
    loosening: Loosening,
}

/// Where a daemon answers, what it runs is compared with what was read; where none does, there is nothing to compare with.
pub(super) async fn run(mut report: CheckReport, client: &Client, json: bool, out: &mut Out) -> Result<Exit, Failure> {
    if let Ok(status) = client.get::<Status>("/api/v1/status").await {
        report.changes = Some(changes(&report, &status));
    }
    let record = record(&report);
    if json {
        out.json(&record)?;
    } else {
        out.text(&render(&record, out.paint))?;
    }
    Ok(exit(&record))
}

fn changes(report: &CheckReport, status: &Status) -> Vec<Change> {
    let containers: Vec<_> = status.projects.iter().flat_map(|p| &p.services).flat_map(|s| &s.containers).collect();
    let change =
        |verb: &str, what: String, reason: &str| Change { verb: verb.to_owned(), what, reason: reason.to_owned() };
    let mut changes = Vec::new();
    for project in &report.projects {
        for service in project.services.iter().filter(|s| s.replicas > 0) {
            let of_service = |c: &&&Container| c.project == project.name.as_str() && c.service == service.name.as_str();
            let here = containers.iter().filter(of_service).count();
            let same = containers.iter().filter(of_service).filter(|c| c.hash == service.hash.as_str()).count();
            let (what, wanted) = (format!("{}/{}", project.name, service.name), service.replicas as usize);
            if here == 0 {
                changes.push(change("create", what, "the daemon has none of it"));
            } else if same < here.min(wanted) {
                changes.push(change("replace", what, "its specification differs from what runs"));
            } else if here != wanted {
                changes.push(change("scale", what, &format!("{here} here, {wanted} asked for")));
            } else if let Some(changed) = containers.iter().filter(of_service).find_map(|c| given(c, service)) {
                changes.push(change("update", what, &changed));
            }
        }
    }
    if report.whole_folder {
        let named = |p: &Project| report.projects.iter().any(|read| read.name.as_str() == p.name);
        let gone = status.projects.iter().filter(|p| !named(p));
        changes.extend(gone.map(|p| change("remove", p.name.clone(), "the folder does not name it")));
    }
    changes
}

/// What the container would be given as it is, in words. A daemon of before does not say what it was given.
fn given(container: &Container, service: &CheckedService) -> Option<String> {
    let had = Settings::told(container.settings.clone());
    let changed = had.changes_to(&service.settings);
    (had != Settings::default() && !changed.is_empty()).then(|| changed.join(", "))
}

fn record(report: &CheckReport) -> Record {
    let projects = report.projects.iter().map(|p| ProjectRecord {
        name: p.name.to_string(),
        file: p.file.display().to_string(),
        services: p.services.iter().map(|s| s.name.to_string()).collect(),
        loosenings: p.services.iter().flat_map(loosenings).collect(),
    });
    Record {
        projects: projects.collect(),
        problems: report.problems.iter().map(Problem::from).collect(),
        changes: report.changes.as_ref().map(|c| c.iter().map(ChangeRecord::from).collect()),
    }
}

fn loosenings(service: &CheckedService) -> Vec<LooseningRecord> {
    let record =
        |loosening| LooseningRecord { service: service.name.to_string(), loosening: Loosening::from(loosening) };
    service.loosenings.iter().map(record).collect()
}

fn exit(record: &Record) -> Exit {
    if problems::stop_something(&record.problems) {
        return Exit::Error;
    }
    match &record.changes {
        Some(changes) if !changes.is_empty() => Exit::Changes,
        Some(_) | None => Exit::Fine,
    }
}

fn render(record: &Record, paint: Paint) -> String {
    let mut text = problems::render(&record.problems, paint);
    for project in &record.projects {
        let services = project.services.iter().map(|s| printable(s)).collect::<Vec<_>>().join(", ");
        text.push_str(&format!("{} ({}): {services}\n", printable(&project.name), printable(&project.file)));
        for LooseningRecord { service, loosening } in &project.loosenings {
            text.push_str(&status::loosening(&format!("{}/{service}", project.name), loosening, paint));
        }
    }
    if let Some(changes) = &record.changes {
        text.push_str(&changes_table(changes, paint));
    }
    text.push_str(&summary(record));
    text
}

fn summary(record: &Record) -> String {
    let services: usize = record.projects.iter().map(|p| p.services.len()).sum();
    let projects = record.projects.len();
    format!("{projects} project(s), {services} service(s), {} problem(s)\n", record.problems.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::CheckedProject;
    use crate::model::{self, Location, ProjectName, ServiceName, SpecHash};

    fn service(name: &str) -> CheckedService {
        let (name, hash) = (ServiceName::parse(name).unwrap(), SpecHash::of(name.as_bytes()));
        CheckedService { name, hash, replicas: 1, settings: Settings::default(), loosenings: Vec::new() }
    }

    fn report() -> CheckReport {
        let project = CheckedProject {
            name: ProjectName::parse("shop").unwrap(),
            file: "shop.yaml".into(),
            services: ["db", "web"].map(service).into(),
        };
        CheckReport { projects: vec![project], ..CheckReport::default() }
    }

    #[test]
    fn a_problem_is_shown_with_its_place_its_lines_and_what_to_do() {
        let mut report = report();
        report.problems.push(
            model::Problem::error(Location::at("blog.yaml", 3, 5), "unknown key \"imagee\"")
                .with_snippet("3 |     imagee: nginx\n  |     ^^^^^^")
                .with_hint("did you mean \"image\"?"),
        );
        report.problems.push(model::Problem::warning(Location::whole("x\x1b[2J.yaml"), "is old"));
        let record = record(&report);
        assert_eq!(exit(&record), Exit::Error);
        insta::assert_snapshot!(render(&record, Paint { on: false }), @r#"
        error: blog.yaml:3:5: unknown key "imagee"
          3 |     imagee: nginx
            |     ^^^^^^
          hint: did you mean "image"?
        warning: x\u{1b}[2J.yaml: is old
        shop (shop.yaml): db, web
        1 project(s), 2 service(s), 2 problem(s)
        "#);
    }

    #[test]
    fn what_is_wide_is_shown_with_its_place() {
        let mut report = report();
        let location = Location::at("shop.yaml", 7, 9);
        let what = "it has the capability CAP_NET_ADMIN".to_owned();
        let loosening = model::Loosening { what, key: "services.web.cap_add".to_owned(), location };
        report.projects[0].services[1].loosenings.push(loosening);
        let record = record(&report);
        assert_eq!(exit(&record), Exit::Fine);
        insta::assert_snapshot!(render(&record, Paint { on: false }), @r"
        shop (shop.yaml): db, web
        loosened: shop.yaml:7:9: shop/web: it has the capability CAP_NET_ADMIN
        1 project(s), 2 service(s), 0 problem(s)
        ");
        let json = serde_json::to_value(&record).unwrap();
        let first = &json["projects"][0]["loosenings"][0];
        assert_eq!((&first["service"], &first["location"]), (&"web".into(), &"shop.yaml:7:9".into()));
    }

    #[test]
    fn the_exit_code_tells_nothing_to_do_from_changes() {
        let mut report = report();
        assert_eq!(exit(&record(&report)), Exit::Fine);
        report.changes = Some(Vec::new());
        assert_eq!(exit(&record(&report)), Exit::Fine);
        let change = Change { verb: "pull".into(), what: "image nginx".into(), reason: "not here".into() };
        report.changes = Some(vec![change]);
        assert_eq!(exit(&record(&report)), Exit::Changes);
    }
}
