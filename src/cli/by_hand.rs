//! `longshore stop|start|restart|kill|pause|unpause|scale|release`: asked by hand, then waited for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;

use super::Exit;
use super::args::duration;
use super::client::Client;
use super::failure::Failure;
use super::out::Out;
use super::progress::Progress;
use super::words::printable;
use crate::api::wire::{ContainerState, HandAsk, HandDone, Phase, Service, Status};

/// How long is waited, and whether.
#[derive(Debug, Args)]
pub(super) struct Patience {
    /// Do not wait until it is so
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration, conflicts_with = "no_wait")]
    timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    /// How long they have to end by themselves [default: as their files say]
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u32>,
    #[command(flatten)]
    patience: Patience,
    /// Services as project/service, projects, or containers
    #[arg(required = true, value_name = "SERVICE")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct NamesArgs {
    #[command(flatten)]
    patience: Patience,
    /// Services as project/service, projects, or containers
    #[arg(required = true, value_name = "SERVICE")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct KillArgs {
    /// Which signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// Services as project/service, projects, or containers
    #[arg(required = true, value_name = "SERVICE")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    patience: Patience,
    /// Services as project/service, projects, or containers [default: all of which something was asked]
    #[arg(value_name = "SERVICE")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct ScaleArgs {
    #[command(flatten)]
    patience: Patience,
    /// Services with their numbers of replicas
    #[arg(required = true, value_name = "SERVICE=N", value_parser = replicas)]
    services: Vec<(String, u32)>,
}

fn replicas(text: &str) -> Result<(String, u32), String> {
    let (name, number) = text.rsplit_once('=').ok_or("write SERVICE=N")?;
    let number = number.parse().map_err(|_| format!("{number:?} is not a number of replicas"))?;
    if name.is_empty() { Err("write SERVICE=N".to_owned()) } else { Ok((name.to_owned(), number)) }
}

pub(super) async fn stop(client: &Client, args: StopArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = HandAsk::Stop { names: args.names, grace_ms: millis(args.time) };
    order(client, &ask, &args.patience, out).await
}

pub(super) async fn start(client: &Client, args: NamesArgs, out: &mut Out) -> Result<Exit, Failure> {
    order(client, &HandAsk::Start { names: args.names }, &args.patience, out).await
}

pub(super) async fn restart(client: &Client, args: StopArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = HandAsk::Restart { names: args.names, grace_ms: millis(args.time) };
    order(client, &ask, &args.patience, out).await
}

/// The signal is sent, or it is not: there is nothing to wait for.
pub(super) async fn kill(client: &Client, args: KillArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = HandAsk::Kill { names: args.names, signal: Some(args.signal) };
    let done: HandDone = client.tell("/api/v1/by-hand", &ask, Duration::from_secs(20)).await?;
    done.services.iter().try_for_each(|name| out.text(&format!("{}: sent\n", printable(name))))?;
    Ok(Exit::Fine)
}

pub(super) async fn pause(client: &Client, args: NamesArgs, out: &mut Out) -> Result<Exit, Failure> {
    order(client, &HandAsk::Pause { names: args.names }, &args.patience, out).await
}

pub(super) async fn unpause(client: &Client, args: NamesArgs, out: &mut Out) -> Result<Exit, Failure> {
    order(client, &HandAsk::Unpause { names: args.names }, &args.patience, out).await
}

pub(super) async fn scale(client: &Client, args: ScaleArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut replicas = BTreeMap::new();
    for (name, number) in args.services {
        if replicas.insert(name.clone(), number).is_some() {
            return Err(Failure::Said(format!("{} is named twice", printable(&name))));
        }
    }
    order(client, &HandAsk::Scale { replicas }, &args.patience, out).await
}

pub(super) async fn release(client: &Client, args: ReleaseArgs, out: &mut Out) -> Result<Exit, Failure> {
    order(client, &HandAsk::Release { names: args.names }, &args.patience, out).await
}

fn millis(seconds: Option<u32>) -> Option<u64> {
    seconds.map(|seconds| u64::from(seconds) * 1_000)
}

async fn order(client: &Client, ask: &HandAsk, patience: &Patience, out: &mut Out) -> Result<Exit, Failure> {
    let done: HandDone = client.tell("/api/v1/by-hand", ask, Duration::from_secs(20)).await?;
    if done.services.is_empty() {
        out.text("nothing was asked by hand\n")?;
        return Ok(Exit::Fine);
    }
    if patience.no_wait {
        done.services.iter().try_for_each(|name| out.text(&format!("{}: asked\n", printable(name))))?;
        return Ok(Exit::Fine);
    }
    let status = wait(client, &done.services, patience.timeout, out).await?;
    let mut exit = Exit::Fine;
    for name in &done.services {
        let (well, words) = outcome(&status, name, patience.timeout);
        let line = format!("{}: {}", printable(name), printable(&words));
        if well {
            out.text(&format!("{line}\n"))?;
        } else {
            out.complain(&line);
            exit = Exit::Error;
        }
    }
    Ok(exit)
}

/// Asks until it is so, or cannot be, or the time is over.
async fn wait(client: &Client, names: &[String], limit: Duration, out: &mut Out) -> Result<Status, Failure> {
    let end = Instant::now() + limit;
    let mut progress = Progress::new(out.watched);
    let mut status: Status = client.get("/api/v1/status").await?;
    while names.iter().any(|name| service(&status, name).is_some_and(busy)) && Instant::now() < end {
        progress.draw(&status)?;
        let left = end.saturating_duration_since(Instant::now()).as_secs().clamp(1, 5);
        let path = format!("/api/v1/status?wait={}&timeout={left}", status.revision);
        status = client.get_within(&path, Duration::from_secs(left)).await?;
    }
    progress.clear()?;
    Ok(status)
}

fn service<'s>(status: &'s Status, name: &str) -> Option<&'s Service> {
    let (project, service) = name.split_once('/')?;
    let project = status.projects.iter().find(|p| p.name == project)?;
    project.services.iter().find(|s| s.name == service)
}

fn busy(service: &Service) -> bool {
    match service.phase {
        Phase::Applying | Phase::Removing => true,
        Phase::Applied | Phase::Failing | Phase::Held => false,
    }
}

/// Whether it is so, and what there is to say.
fn outcome(status: &Status, name: &str, limit: Duration) -> (bool, String) {
    let Some(service) = service(status, name) else { return (true, "it is gone".to_owned()) };
    let hold = service.holds.first().map(|p| p.message.clone());
    let why = || hold.clone().or_else(|| service.waiting.first().map(|w| w.reason.clone()));
    let reason = || why().map_or_else(String::new, |why| format!(": {why}"));
    match service.phase {
        Phase::Applied => (true, state(service)),
        Phase::Failing => (false, format!("failing{}", reason())),
        Phase::Held => (false, format!("held{}", reason())),
        Phase::Applying | Phase::Removing => {
            let under_way = status.under_way.first().map(|step| format!(": {} {}", step.verb, step.what));
            let what = why().map(|why| format!(": {why}")).or(under_way).unwrap_or_default();
            (false, format!("it is not so after {} s{what}", limit.as_secs()))
        }
    }
}

fn state(service: &Service) -> String {
    let by_hand = service.by_hand.as_ref();
    let ran = |c: &&crate::api::wire::Container| matches!(c.state, ContainerState::Exited { .. });
    let ended = service.containers.iter().filter(ran).count();
    if by_hand.is_some_and(|hand| hand.stopped) {
        return "stopped".to_owned();
    }
    if by_hand.is_some_and(|hand| hand.paused) {
        return "paused".to_owned();
    }
    let over = match by_hand.and_then(|hand| hand.file_replicas) {
        Some(file) => format!(" (by hand; its file says {file})"),
        None => String::new(),
    };
    let ended = if ended > 0 { format!(", {ended} ended") } else { String::new() };
    format!("{} of {} run{ended}{over}", service.running, service.wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_replicas() {
        assert_eq!(replicas("shop/web=3"), Ok(("shop/web".to_owned(), 3)));
        assert_eq!(replicas("a=b=0"), Ok(("a=b".to_owned(), 0)));
        for wrong in ["web", "web=", "web=-1", "=3", "web=x"] {
            assert!(replicas(wrong).is_err(), "{wrong}");
        }
    }
}
