//! `longshore why`

use super::Exit;
use super::args::WhyArgs;
use super::client::{Client, percent};
use super::failure::Failure;
use super::out::{Ink, Out, Paint, now};
use super::words::{age, printable, span, until};
use crate::api::wire::{Cause, Container, CrashLoop, Status, Why};
use crate::model::Timestamp;

pub(super) async fn run(client: &Client, args: &WhyArgs, out: &mut Out) -> Result<Exit, Failure> {
    let (project, service) = service(client, &args.name).await?;
    let why: Why = client.get(&format!("/api/v1/services/{}/{}/why", percent(&project), percent(&service))).await?;
    if args.json {
        out.json(&why)?;
    } else {
        out.text(&render(&why, out.paint, now()))?;
    }
    Ok(Exit::Fine)
}

/// Which service a name means. One that is gone by now is written in full.
pub(super) async fn service(client: &Client, name: &str) -> Result<(String, String), Failure> {
    if let Some((project, service)) = name.split_once('/') {
        return Ok((project.to_owned(), service.to_owned()));
    }
    let containers: Vec<Container> = client.get("/api/v1/containers").await?;
    if let Some(one) = containers.iter().find(|c| c.name == name || c.id == name) {
        return Ok((one.project.clone(), one.service.clone()));
    }
    let status: Status = client.get("/api/v1/status").await?;
    let services = status.projects.iter().flat_map(|p| p.services.iter().map(|s| (p.name.clone(), s.name.clone())));
    let mut found: Vec<(String, String)> = services.filter(|(_, service)| service == name).collect();
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(one), false) => {
            let all: Vec<String> =
                found.iter().chain([&one]).map(|(project, service)| format!("{project}/{service}")).collect();
            Err(Failure::Said(format!("{name:?} could be {} (write project/service)", all.join(", "))))
        }
        (None, _) => {
            let hint = "a service that is gone is written project/service";
            Err(Failure::Said(format!("no container or service is called {name:?} ({hint})")))
        }
    }
}

fn render(why: &Why, paint: Paint, now: Timestamp) -> String {
    let mut text = String::new();
    for cause in &why.causes {
        text.push_str(&told(cause, paint, now));
    }
    if why.causes.is_empty() {
        text.push_str("nothing is known to have happened to it\n");
    }
    text.push('\n');
    let phase = why.phase.map_or("gone", |phase| phase.as_str());
    text.push_str(&format!("{}/{} is {phase}\n", why.project, why.service));
    for crash in &why.crash_loops {
        text.push_str(&format!("{}\n", paint.ink(Ink::Bad, &printable(&crashes(crash, now)))));
    }
    for said in why.set_aside.iter().map(|aside| &aside.message).chain(&why.update) {
        text.push_str(&format!("{}\n", printable(said)));
    }
    for wait in &why.waiting {
        let next = wait.until.map_or_else(String::new, |at| format!(" (next look {})", until(at, now)));
        text.push_str(&format!("{}\n", printable(&format!("{} waits: {}{next}", wait.what, wait.reason))));
    }
    text
}

/// `shop-web-1 is in a crash loop: it ended 7 times in 2m, the last time 3s ago, with: exit code 1; started again in 8s`.
fn crashes(crash: &CrashLoop, now: Timestamp) -> String {
    let CrashLoop { container, times, cause, since, last, next_attempt } = crash;
    let over = span(last.timestamp().since(since.timestamp()));
    let next = next_attempt
        .map_or_else(|| "it was started again".to_owned(), |at| format!("it is started again {}", until(at, now)));
    format!(
        "{container} is in a crash loop: it ended {times} times in {over}, the last time {} ago, with: {cause}; {next}",
        age(*last, now)
    )
}

fn told(cause: &Cause, paint: Paint, now: Timestamp) -> String {
    let ink = match cause.kind.as_str() {
        "failed" | "unhealthy" => Ink::Bad,
        "ended" => Ink::Busy,
        "edited" | "dropped" | "moved" | "version" => Ink::Strong,
        _ => Ink::Plain,
    };
    let mut line = format!("{}: {}", cause.subject, cause.message);
    if cause.times > 1 {
        line.push_str(&format!(", {} times since {}", cause.times, clock(cause.time)));
    }
    if let Some(reason) = &cause.reason {
        let joined = if cause.kind == "ended" { format!("; {reason}") } else { format!(" ({reason})") };
        line.push_str(&joined);
    }
    if let Some(next) = cause.next_attempt {
        let again = if cause.kind == "ended" { "started again" } else { "tried again" };
        let at = if next.timestamp() > now { until(next, now) } else { format!("at {}", clock(next)) };
        line.push_str(&format!("; {again} {at}"));
    }
    let mut text = format!("{} {}\n", paint.ink(Ink::Faint, &clock(cause.last)), paint.ink(ink, &printable(&line)));
    for edit in &cause.edits {
        text.push_str(&format!("    {}\n", printable(&edit.text)));
    }
    text
}

/// To the second.
fn clock(at: crate::api::wire::Time) -> String {
    let text = at.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}
