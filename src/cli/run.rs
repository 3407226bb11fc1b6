//! `longshore run SERVICE [COMMAND…]`
//!
//! The daemon makes and starts the container; this program shows what it says, from its log, and ends as it does. It passes no input on.
//! A SIGINT or SIGTERM has it stopped as its service is, unless it is kept: then it goes on. A second one gives up.

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::Exit;
use super::client::{Client, Lines, percent};
use super::exec::environment;
use super::failure::Failure;
use super::logs::{Printer, ended};
use super::out::Out;
use crate::api::wire::{LogRecord, RunAsk, RunEnded, RunState};

/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// As whom: a name or a number of the container, with a group where one is given [default: as the service's command]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Where, absolute [default: where the service's command begins]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// A variable; without a value the one that it has here
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A program instead of the entrypoint; the service's command is then left out
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Do not wait for its end; print its name once it runs
    #[arg(short, long)]
    detach: bool,
    /// Leave the container there once it has ended [default: it is removed]
    #[arg(long)]
    keep: bool,
    /// End and remove a container of `run`, also one that was kept: SERVICE is its name
    #[arg(long, conflicts_with_all = ["user", "workdir", "env", "entrypoint", "detach", "keep", "command"])]
    remove: bool,
    /// A service, or project/service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// What to run; it gets no input and no terminal [default: the service's command]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn run(client: &Client, args: RunArgs, out: &mut Out) -> Result<Exit, Failure> {
    if args.remove {
        let _: RunEnded = client.delete(&path(&args.service), PATIENCE).await?;
        return Ok(Exit::Fine);
    }
    let ask = RunAsk {
        service: args.service,
        command: args.command,
        entrypoint: args.entrypoint,
        environment: environment::read(&args.env, &[])?,
        user: args.user,
        working_dir: args.workdir,
        keep: args.keep,
        detach: args.detach,
    };
    let mut signals = Signals::listen().map_err(Failure::Runtime)?;
    let state: RunState = client.tell("/api/v1/run", &ask, PATIENCE).await?;
    let mut watch = Watch { client, path: path(&state.id), state, keep: args.keep, told: None, asked_to_end: false };
    watch.until(&mut signals, out, |state| state.state != "waiting").await?;
    if watch.state.state == "failed" {
        let reason = watch.state.reason.unwrap_or_default();
        return Err(Failure::Said(format!("{} was not run: {reason}", watch.state.name)));
    }
    if args.detach {
        out.text(&format!("{}\n", watch.state.name))?;
        return Ok(Exit::Fine);
    }
    let shown = show(&mut watch, &mut signals, out).await;
    if !args.keep && watch.over() {
        // What is not told now is removed after a minute.
        let _: Result<RunEnded, Failure> = client.delete(&watch.path, PATIENCE).await;
    }
    shown?;
    match watch.state.exit_code {
        Some(code) => Ok(Exit::Command(code)),
        None => Err(Failure::Said(format!("{}: {}", watch.state.name, watch.state.reason.unwrap_or_default()))),
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/run/{}", percent(name))
}

/// Its output as it comes, until all of it is there.
async fn show(watch: &mut Watch<'_>, signals: &mut Signals, out: &mut Out) -> Result<(), Failure> {
    let log = format!("/api/v1/containers/{}/logs", percent(&watch.state.id));
    let mut lines = watch.client.lines(&format!("{log}?follow=true")).await?;
    let (mut printer, mut shown) = (Printer::of_one(out.paint), None);
    let mut look = Instant::now() + LOOK;
    while !watch.over() {
        // A line that is cut off by a look is read on by the next call.
        tokio::select! {
            line = lines.next() => match line? {
                Some(line) => shown = Some(print(&mut printer, &line, out)?),
                None => {
                    watch.until(signals, out, RunState::is_over).await?;
                    return out.flush().map_err(Failure::Output);
                }
            },
            () = sleep_until(look) => {
                out.flush()?;
                watch.look().await?;
                look = Instant::now() + LOOK;
            }
            () = signals.next() => watch.end(out).await?,
        }
    }
    // The log is whole now; where it ends is asked, so that no end has to be guessed.
    let last = last(watch.client.lines(&format!("{log}?tail=1")).await?).await?;
    while shown < last {
        let Some(line) = lines.next().await? else { break };
        shown = Some(print(&mut printer, &line, out)?);
    }
    out.flush().map_err(Failure::Output)
}

fn print(printer: &mut Printer, line: &[u8], out: &mut Out) -> Result<u64, Failure> {
    let record: LogRecord = serde_json::from_slice(line).map_err(|err| ended(line, &err))?;
    let number = record.sequence;
    printer.write(record, out)?;
    Ok(number)
}

/// The number of the last record; none where nothing was said.
async fn last(mut lines: Lines) -> Result<Option<u64>, Failure> {
    let mut last = None;
    while let Some(line) = lines.next().await? {
        let record: LogRecord = serde_json::from_slice(&line).map_err(|err| ended(&line, &err))?;
        last = last.max(Some(record.sequence));
    }
    Ok(last)
}

impl RunState {
    fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "ended" | "failed" | "lost")
    }
}

/// One run, as it is seen from here.
struct Watch<'c> {
    client: &'c Client,
    path: String,
    state: RunState,
    keep: bool,
    /// What it waited for when that was told.
    told: Option<String>,
    asked_to_end: bool,
}

impl Watch<'_> {
    fn over(&self) -> bool {
        self.state.is_over()
    }

    async fn look(&mut self) -> Result<(), Failure> {
        let name = &self.state.name;
        let lost = |err| match err {
            Failure::Refused { .. } => Failure::Said(format!(
                "the daemon was started anew and nobody knows how {name} ends; where it runs, it goes on: `longshore ps -a`"
            )),
            Failure::NoDaemon { .. } | Failure::NobodyListens { .. } | Failure::Broken { .. } => Failure::Said(
                format!("the daemon has gone away; where {name} runs, it goes on: `longshore logs {name}`"),
            ),
            other => other,
        };
        self.state = self.client.get(&self.path).await.map_err(lost)?;
        Ok(())
    }

    /// Looks until it is as far; says what it waits for meanwhile.
    async fn until(
        &mut self,
        signals: &mut Signals,
        out: &mut Out,
        far: impl Fn(&RunState) -> bool,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        while !far(&self.state) {
            let waits = self.state.reason.clone().filter(|_| self.state.state == "waiting");
            if begun.elapsed() > 10 * LOOK && waits.is_some() && waits != self.told {
                out.complain(&format!("{} waits: {}", self.state.name, waits.as_deref().unwrap_or_default()));
                self.told = waits;
            }
            tokio::select! {
                () = sleep_until(Instant::now() + LOOK) => self.look().await?,
                () = signals.next() => self.end(out).await?,
            }
        }
        Ok(())
    }

    /// Somebody wants no more of it.
    async fn end(&mut self, out: &mut Out) -> Result<(), Failure> {
        let name = &self.state.name;
        if std::mem::replace(&mut self.asked_to_end, true) {
            return Err(Failure::Said(format!("given up: {name} is being stopped by the daemon")));
        }
        if self.keep && self.state.state != "waiting" {
            return Err(Failure::Said(format!("{name} goes on; `longshore run --remove {name}` ends and removes it")));
        }
        out.complain(&format!("{name} is being stopped"));
        let _: RunEnded = self.client.delete(&self.path, PATIENCE).await?;
        Ok(())
    }
}

/// The signals that end it.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        // Each only waits; none is lost when the other one comes first.
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
