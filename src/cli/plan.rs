//! `longshore plan`

use serde::Serialize;

use super::args::PlanArgs;
use super::client::Client;
use super::failure::Failure;
use super::out::{Ink, Out, Paint, now};
use super::report::{Change, PlanReport};
use super::table::{Table, plain};
use super::words::{age, until};
use super::{Exit, ports, problems};
use crate::api::wire::{Plan, PlannedPorts, Problem, Wait};
use crate::model::Timestamp;

pub(super) async fn run(client: &Client, args: &PlanArgs, out: &mut Out) -> Result<Exit, Failure> {
    let plan: Plan = client.get("/api/v1/plan").await?;
    if args.json {
        out.json(&plan)?;
    } else {
        out.text(&render(&plan, out.paint, now()))?;
    }
    Ok(if plan.settled { Exit::Fine } else { Exit::Changes })
}

fn render(plan: &Plan, paint: Paint, now: Timestamp) -> String {
    let mut steps = Table::new(&["UNDER WAY", "WHAT", "WHY", "SINCE"]);
    for step in &plan.under_way {
        let verb = (step.verb.clone(), Ink::Busy);
        steps.row([verb, plain(&step.what), plain(&step.reason), plain(age(step.since, now))]);
    }
    let waits = waits_table(&plan.waiting, now);
    let mut text = String::new();
    let ports = ports_table(&plan.ports);
    for table in [&steps, &waits, &ports].into_iter().filter(|t| !t.is_empty()) {
        text.push_str(&table.render(paint));
        text.push('\n');
    }
    text.push_str(&match (plan.settled, plan.under_way.len(), plan.waiting.len()) {
        (true, _, 0) => "nothing to do\n".to_owned(),
        (true, _, left) => format!("nothing to do; {left} left to their owner\n"),
        (false, steps, waiting) => format!("{steps} under way, {waiting} waiting\n"),
    });
    text
}

pub(super) fn waits_table(waiting: &[Wait], now: Timestamp) -> Table {
    let mut table = Table::new(&["WAITING", "FOR", "SINCE", "NEXT LOOK"]);
    for wait in waiting {
        let next = wait.until.map_or_else(String::new, |t| until(t, now));
        table.row([plain(&wait.what), plain(&wait.reason), plain(age(wait.since, now)), plain(next)]);
    }
    table
}

/// What will be published, and who will reach it.
fn ports_table(planned: &[PlannedPorts]) -> Table {
    let mut table = Table::new(&["PORTS TO COME", "OF", "REACHED"]);
    for service in planned {
        for port in &service.ports {
            let ink = if port.outside { Ink::Strong } else { Ink::Plain };
            let written = ports::planned(std::slice::from_ref(port));
            table.row([plain(written), plain(&service.service), (port.reach.clone(), ink)]);
        }
    }
    table
}

/// A change, for programs.
#[derive(Serialize)]
pub(super) struct ChangeRecord {
    verb: String,
    what: String,
    reason: String,
}

impl From<&Change> for ChangeRecord {
    fn from(change: &Change) -> Self {
        Self { verb: change.verb.clone(), what: change.what.clone(), reason: change.reason.clone() }
    }
}

pub(super) fn changes_table(changes: &[ChangeRecord], paint: Paint) -> String {
    let mut table = Table::new(&["WOULD", "WHAT", "WHY"]);
    for change in changes {
        table.row([(change.verb.clone(), Ink::Busy), plain(&change.what), plain(&change.reason)]);
    }
    if table.is_empty() { String::new() } else { table.render(paint) + "\n" }
}

#[derive(Serialize)]
struct Offline {
    changes: Vec<ChangeRecord>,
    waiting: Vec<Waiting>,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Waiting {
    what: String,
    reason: String,
}

/// The plan that was made in this process, with no daemon.
pub(super) fn offline(report: &PlanReport, json: bool, out: &mut Out) -> Result<Exit, Failure> {
    if let Some(failure) = &report.failure {
        return Err(Failure::Said(failure.clone()));
    }
    let waiting = report.waiting.iter().map(|(what, reason)| Waiting { what: what.clone(), reason: reason.clone() });
    let plan = Offline {
        changes: report.changes.iter().map(ChangeRecord::from).collect(),
        waiting: waiting.collect(),
        problems: report.problems.iter().map(Problem::from).collect(),
    };
    if json {
        out.json(&plan)?;
    } else {
        out.text(&render_offline(&plan, out.paint))?;
    }
    Ok(exit(&plan))
}

fn exit(plan: &Offline) -> Exit {
    match (problems::stop_something(&plan.problems), plan.changes.is_empty()) {
        (true, _) => Exit::Error,
        (false, false) => Exit::Changes,
        (false, true) => Exit::Fine,
    }
}

fn render_offline(plan: &Offline, paint: Paint) -> String {
    let mut text = problems::render(&plan.problems, paint) + &changes_table(&plan.changes, paint);
    let mut waits = Table::new(&["WAITING", "FOR"]);
    plan.waiting.iter().for_each(|w| waits.row([plain(&w.what), plain(&w.reason)]));
    if !waits.is_empty() {
        text.push_str(&(waits.render(paint) + "\n"));
    }
    text.push_str(&match plan.changes.len() {
        0 => "nothing to do\n".to_owned(),
        many => format!("{many} first step(s), {} waiting\n", plan.waiting.len()),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::{Counts, PublishedPort, Step, Time};

    #[test]
    fn what_is_done_and_what_waits() {
        let at = |s: u64| Time::from(Timestamp(s * 1000));
        let step = Step {
            verb: "pull".into(),
            what: "image docker.io/library/nginx:latest".into(),
            reason: "wanted by shop/web".into(),
            since: at(97),
        };
        let wait =
            Wait { what: "slot shop/web/1".into(), reason: "its image".into(), since: at(90), until: Some(at(130)) };
        let port = |address: Option<&str>, port: u16, reach: &str| PublishedPort {
            address: address.map(str::to_owned),
            port: Some(port),
            last_port: None,
            target: 80,
            protocol: "tcp".into(),
            outside: true,
            reach: reach.to_owned(),
        };
        let ports =
            vec![port(None, 8080, "from other machines"), port(Some("127.0.0.1"), 81, "from this machine only")];
        let ports = PlannedPorts { service: "shop/web".into(), ports };
        let mut plan = Plan {
            revision: 1,
            settled: false,
            counts: Counts::default(),
            under_way: vec![step],
            waiting: vec![wait],
            ports: vec![ports],
        };
        let paint = Paint { on: false };
        insta::assert_snapshot!(render(&plan, paint, Timestamp(100_000)), @r"
        UNDER WAY  WHAT                                  WHY                 SINCE
        pull       image docker.io/library/nginx:latest  wanted by shop/web  3s

        WAITING          FOR        SINCE  NEXT LOOK
        slot shop/web/1  its image  10s    in 30s

        PORTS TO COME         OF        REACHED
        0.0.0.0:8080->80/tcp  shop/web  from other machines
        127.0.0.1:81->80/tcp  shop/web  from this machine only

        1 under way, 1 waiting
        ");
        plan = Plan { settled: true, under_way: Vec::new(), waiting: Vec::new(), ports: Vec::new(), ..plan };
        assert_eq!(render(&plan, paint, Timestamp(0)), "nothing to do\n");
    }
}
