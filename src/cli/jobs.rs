//! `longshore jobs`

use clap::{Args, Subcommand};

use super::Exit;
use super::client::{Client, percent};
use super::failure::Failure;
use super::out::{Ink, Out, Paint, now};
use super::table::{Table, plain};
use super::words::{age, span};
use crate::api::wire::{Job, JobRun};
use crate::model::Timestamp;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct JobsArgs {
    #[command(subcommand)]
    pub(super) command: Option<JobsCommand>,
    /// Only this service, with what became of its last times: a service, or project/service
    pub(super) name: Option<String>,
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum JobsCommand {
    /// Run a service now, whatever its schedule says
    Run {
        /// A service, or project/service
        name: String,
    },
}

pub(super) async fn run(client: &Client, args: &JobsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let jobs: Vec<Job> = client.get("/api/v1/jobs").await?;
    if let Some(JobsCommand::Run { name }) = &args.command {
        let job = find(&jobs, name)?;
        let path = format!("/api/v1/jobs/{}/{}/run", percent(&job.project), percent(&job.service));
        let _begun: Job = client.post(&path).await?;
        out.text(&format!(
            "{}/{} is run now; `longshore jobs {}/{}` shows how it goes\n",
            job.project, job.service, job.project, job.service
        ))?;
        return Ok(Exit::Fine);
    }
    let one = args.name.as_deref().map(|name| find(&jobs, name)).transpose()?;
    match (args.json, one) {
        (true, Some(job)) => out.json(job)?,
        (true, None) => out.json(&jobs)?,
        (false, Some(job)) => out.text(&detail(job, out.paint, now()))?,
        (false, None) => out.text(&overview(&jobs, out.paint, now()))?,
    }
    Ok(Exit::Fine)
}

fn find<'a>(jobs: &'a [Job], name: &str) -> Result<&'a Job, Failure> {
    let (project, service) = name.split_once('/').map_or((None, name), |(project, service)| (Some(project), service));
    let mut found = jobs.iter().filter(|job| job.service == service && project.is_none_or(|p| job.project == p));
    match (found.next(), found.next()) {
        (Some(job), None) => Ok(job),
        (Some(_), Some(_)) => Err(Failure::Said(format!("several projects have a {name:?}: write project/service"))),
        (None, _) => Err(Failure::Said(format!("no service with a schedule is called {name:?}"))),
    }
}

fn overview(jobs: &[Job], paint: Paint, now: Timestamp) -> String {
    if jobs.is_empty() {
        return "no service has a schedule (`x-longshore: {schedule: …}`)\n".to_owned();
    }
    let mut table = Table::new(&["SERVICE", "SCHEDULE", "NEXT", "LAST"]);
    for job in jobs {
        let zone = job.timezone.as_ref().map(|zone| format!(" {zone}")).unwrap_or_default();
        let last = job.run.as_ref().or_else(|| job.history.last());
        table.row([
            plain(format!("{}/{}", job.project, job.service)),
            plain(format!("{}{zone}", job.schedule)),
            plain(next(job)),
            last.map_or_else(|| plain(""), |run| told(run, now)),
        ]);
    }
    table.render(paint)
}

/// The next time, or why there is none.
fn next(job: &Job) -> String {
    let none = || job.idle.clone().unwrap_or_else(|| "never".to_owned());
    job.next_local.clone().unwrap_or_else(none)
}

fn detail(job: &Job, paint: Paint, now: Timestamp) -> String {
    let zone = job.timezone.as_deref().unwrap_or("the host's time zone");
    let next = next(job);
    let mut text = format!("{}/{}: `{}`, {zone}\nnext time: {next}\n", job.project, job.service, job.schedule);
    if job.queued.is_some() {
        text.push_str("another run waits for the end of the present one\n");
    }
    let mut table = Table::new(&["TIME", "WHY", "OUTCOME", "TOOK"]);
    for run in job.history.iter().chain(&job.run) {
        let took = run.started.zip(run.ended).map(|(from, to)| span(to.timestamp().since(from.timestamp())));
        table.row([plain(&run.due_local), plain(&run.why), told(run, now), plain(took.unwrap_or_default())]);
    }
    if !table.is_empty() {
        text.push('\n');
        text.push_str(&table.render(paint));
    }
    text
}

fn told(run: &JobRun, now: Timestamp) -> (String, Ink) {
    let ago = run.ended.map(|at| format!(", {} ago", age(at, now))).unwrap_or_default();
    let reason = run.reason.as_deref().unwrap_or_default();
    match run.outcome.as_str() {
        "running" => ("running".to_owned(), Ink::Good),
        "succeeded" => (format!("done{ago}"), Ink::Plain),
        "failed" => (format!("{reason}{ago}"), Ink::Bad),
        _ if run.times > 1 => (format!("{} times left out: {reason}", run.times), Ink::Busy),
        _ => (format!("left out: {reason}"), Ink::Busy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Time;

    fn run(outcome: &str, code: Option<u8>, reason: &str, times: u32) -> JobRun {
        let at = |s: u64| Time::from(Timestamp(s * 1000));
        let ran = code.is_some();
        JobRun {
            due: at(100),
            due_local: "1970-01-01 00:01 +00:00".into(),
            why: "scheduled".into(),
            outcome: outcome.into(),
            started: ran.then(|| at(100)),
            ended: ran.then(|| at(103)),
            exit_code: code,
            reason: Some(reason.into()),
            times,
        }
    }

    #[test]
    fn the_last_times_and_the_next_one() {
        let job = Job {
            project: "shop".into(),
            service: "backup".into(),
            schedule: "0 3 * * *".into(),
            timezone: Some("Europe/Berlin".into()),
            next: None,
            idle: None,
            next_local: Some("2026-11-26 03:00 +01:00".into()),
            queued: None,
            run: None,
            history: vec![
                run("succeeded", Some(0), "exit code 0", 1),
                run("left", None, "the run before went on (overlap: skip)", 4),
                run("failed", Some(3), "exit code 3", 1),
            ],
        };
        let now = Timestamp(163_000);
        insta::assert_snapshot!(overview(std::slice::from_ref(&job), Paint { on: false }, now), @r"
        SERVICE      SCHEDULE                 NEXT                     LAST
        shop/backup  0 3 * * * Europe/Berlin  2026-11-26 03:00 +01:00  exit code 3, 60s ago
        ");
        insta::assert_snapshot!(detail(&job, Paint { on: false }, now), @r"
        shop/backup: `0 3 * * *`, Europe/Berlin
        next time: 2026-11-26 03:00 +01:00

        TIME                     WHY        OUTCOME                                                   TOOK
        1970-01-01 00:01 +00:00  scheduled  done, 60s ago                                             3s
        1970-01-01 00:01 +00:00  scheduled  4 times left out: the run before went on (overlap: skip)
        1970-01-01 00:01 +00:00  scheduled  exit code 3, 60s ago                                      3s
        ");
        insta::assert_snapshot!(overview(&[], Paint { on: false }, now), @"no service has a schedule (`x-longshore: {schedule: …}`)");
        assert!(find(&[job.clone(), job.clone()], "backup").is_err() && find(&[job], "shop/backup").is_ok());
    }
}
