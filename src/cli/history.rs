//! `longshore history`, `rollback` and `resume`

use std::time::Duration;

use super::Exit;
use super::args::{HistoryArgs, ResumeArgs, RollbackArgs};
use super::client::{Client, percent};
use super::failure::Failure;
use super::out::{Ink, Out, Paint, now};
use super::table::{Table, plain};
use super::why::service;
use super::words::{age, image, printable};
use crate::api::wire::{Decided, GenerationDiff, History, ResumeAsk, RollbackAsk, ServiceGeneration, Status};
use crate::model::Timestamp;

/// The answer comes once the decision is on disk.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn run(client: &Client, args: &HistoryArgs, out: &mut Out) -> Result<Exit, Failure> {
    let services = named(client, &args.name).await?.services();
    if let [from, rest @ ..] = args.diff.as_slice() {
        let [(project, service)] = services.as_slice() else {
            return Err(Failure::Said(format!("{:?} is a project; name one of its services", args.name)));
        };
        let to = rest.first().map_or_else(String::new, |to| format!("&to={to}"));
        let path = format!("/api/v1/services/{}/{}/diff?from={from}{to}", percent(project), percent(service));
        let diff: GenerationDiff = client.get(&path).await?;
        if args.json {
            out.json(&diff)?;
        } else {
            out.text(&compared(&diff))?;
        }
        return Ok(Exit::Fine);
    }
    let mut all: Vec<History> = Vec::new();
    for (project, service) in &services {
        let path = format!("/api/v1/services/{}/{}/history", percent(project), percent(service));
        all.push(client.get(&path).await?);
    }
    if args.json {
        out.json(&all)?;
    } else {
        out.text(&render(&all, out.paint, now()))?;
    }
    Ok(Exit::Fine)
}

pub(super) async fn rollback(client: &Client, args: &RollbackArgs, out: &mut Out) -> Result<Exit, Failure> {
    let (project, service) = named(client, &args.name).await?.one();
    let ask = RollbackAsk { project, service, generation: args.generation };
    let decided: Decided = client.tell("/api/v1/rollback", &ask, PATIENCE).await?;
    said(&decided, out)
}

pub(super) async fn resume(client: &Client, args: &ResumeArgs, out: &mut Out) -> Result<Exit, Failure> {
    let (project, service) = named(client, &args.name).await?.one();
    let decided: Decided = client.tell("/api/v1/resume", &ResumeAsk { project, service }, PATIENCE).await?;
    said(&decided, out)
}

fn said(decided: &Decided, out: &mut Out) -> Result<Exit, Failure> {
    let lines: String = decided.done.iter().map(|line| format!("{}\n", printable(line))).collect();
    out.text(&lines)?;
    Ok(Exit::Fine)
}

/// What a name means.
enum Named {
    Service(String, String),
    /// With its services.
    Project(String, Vec<String>),
}

impl Named {
    fn services(self) -> Vec<(String, String)> {
        match self {
            Self::Service(project, service) => vec![(project, service)],
            Self::Project(project, services) => services.into_iter().map(|s| (project.clone(), s)).collect(),
        }
    }

    fn one(self) -> (String, Option<String>) {
        match self {
            Self::Service(project, service) => (project, Some(service)),
            Self::Project(project, _) => (project, None),
        }
    }
}

/// A project, or else a service or a container.
async fn named(client: &Client, name: &str) -> Result<Named, Failure> {
    if !name.contains('/') {
        let status: Status = client.get("/api/v1/status").await?;
        let services = || status.projects.iter().flat_map(|p| &p.services).filter(|s| s.name == name).count();
        // A service that is called as its project, or as another, is meant where it is the only one of that name.
        if let Some(project) = status.projects.iter().find(|p| p.name == name && services() != 1) {
            return Ok(Named::Project(project.name.clone(), project.services.iter().map(|s| s.name.clone()).collect()));
        }
    }
    service(client, name).await.map(|(project, service)| Named::Service(project, service))
}

fn render(all: &[History], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(&["SERVICE", "GENERATION", "ASKED FOR", "IMAGE", "DIGEST", "OUTCOME", "FROM", "WHY"]);
    for history in all {
        for generation in &history.generations {
            let present = if generation.present { " (in force)" } else { "" };
            table.row([
                plain(format!("{}/{}", history.project, history.service)),
                plain(format!("{}{present}", generation.number)),
                plain(format!("{} ago", age(generation.time, now))),
                plain(image(&generation.image)),
                plain(short(&generation.image_digest)),
                outcome(generation),
                plain(&generation.location),
                plain(&generation.why),
            ]);
        }
    }
    let mut text = if table.is_empty() { "no generations yet\n".to_owned() } else { table.render(paint) };
    for history in all {
        let name = format!("{}/{}", history.project, history.service);
        for said in history.set_aside.iter().map(|aside| &aside.message).chain(&history.update) {
            text.push_str(&format!("{}\n", printable(&format!("{name}: {said}"))));
        }
    }
    text
}

fn outcome(generation: &ServiceGeneration) -> (String, Ink) {
    let ink = match generation.outcome.as_str() {
        "good" => Ink::Good,
        "failed" => Ink::Bad,
        "under way" => Ink::Busy,
        _ => Ink::Plain,
    };
    let why = generation.failure.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    (format!("{}{why}", generation.outcome), ink)
}

/// The first digits of a digest.
fn short(digest: &str) -> String {
    digest.split(':').next_back().unwrap_or_default().chars().take(12).collect()
}

fn compared(diff: &GenerationDiff) -> String {
    if diff.edits.is_empty() {
        return format!("generations {} and {} are the same\n", diff.from, diff.to);
    }
    diff.edits.iter().map(|edit| format!("{}\n", printable(&edit.text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::SetAside;

    fn generation(number: u32, outcome: &str, failure: Option<&str>, present: bool) -> ServiceGeneration {
        ServiceGeneration {
            number,
            time: Timestamp(1_000).into(),
            location: format!("shop.yaml:{number}"),
            why: "the file was edited".into(),
            image: format!("docker.io/library/nginx:{number}"),
            image_digest: format!("sha256:{}", "ab".repeat(32)),
            hash: "c".repeat(64),
            outcome: outcome.into(),
            outcome_time: None,
            failure: failure.map(str::to_owned),
            present,
        }
    }

    #[test]
    fn generations_in_a_table_with_what_is_set_aside_below() {
        let set_aside = SetAside {
            message: "rolled back to generation 1; the file's version is set aside: exit code 1".into(),
            reason: "exit code 1".into(),
            since: Timestamp(5_000).into(),
            by_hand: false,
            generation: Some(1),
        };
        let history = History {
            project: "shop".into(),
            service: "web".into(),
            present: Some(1),
            set_aside: Some(set_aside),
            update: None,
            generations: vec![generation(1, "good", None, true), generation(2, "failed", Some("exit code 1"), false)],
        };
        insta::assert_snapshot!(render(&[history], Paint { on: false }, Timestamp(61_000)), @r"
        SERVICE   GENERATION    ASKED FOR  IMAGE    DIGEST        OUTCOME              FROM         WHY
        shop/web  1 (in force)  60s ago    nginx:1  abababababab  good                 shop.yaml:1  the file was edited
        shop/web  2             60s ago    nginx:2  abababababab  failed: exit code 1  shop.yaml:2  the file was edited
        shop/web: rolled back to generation 1; the file's version is set aside: exit code 1
        ");
        insta::assert_snapshot!(render(&[], Paint { on: false }, Timestamp(0)), @"no generations yet");
    }
}
