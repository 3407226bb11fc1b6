//! Services that run at set times: what was decided is remembered and told, and shown.

use super::host::Change;
use super::reconciler::{Noted, Reconciler};
use super::view::{JobRunView, JobView};
use crate::model::{
    Action, Key, PastRun, ProjectName, Run, RunOutcome, RunWhy, Schedule, Service, ServiceName, Timestamp,
};
use crate::plan::{self, Facts, JobStep, Plan, Verdict};

/// One decision leads to the next: the end of a run to that of the time that waits, and both to a step.
const ROUNDS: usize = 8;

impl Reconciler {
    /// The plan, once everything is decided that can be.
    pub(super) fn planned(&mut self, now: Timestamp, noted: &mut Noted) -> Plan {
        self.memory.notice_runs(&self.observed, now);
        self.memory.notice_tasks(&self.desired, &self.observed, now);
        let actions = self.under_way.iter().map(|(key, under)| (key.clone(), under.action.clone())).collect();
        for _ in 0..ROUNDS {
            let plan = self.plan_with(&actions, now);
            if plan.jobs.is_empty() {
                return plan;
            }
            for step in plan.jobs {
                self.judge(step, now, noted);
            }
        }
        self.plan_with(&actions, now)
    }

    fn plan_with(&self, under_way: &std::collections::BTreeMap<Key, Action>, now: Timestamp) -> Plan {
        let (limits, collect) = self.limits();
        let (desired, observed, memory) = (&self.desired, &self.observed, &self.memory);
        plan::plan(&Facts { desired, observed, memory, under_way, limits, collect, now })
    }

    fn judge(&mut self, step: JobStep, now: Timestamp, noted: &mut Noted) {
        let of = (step.project.clone(), step.service.clone());
        let projects = &self.desired.projects;
        let service = projects.get(&of.0).and_then(|project| project.services.get(&of.1)).cloned();
        let told = service.as_ref().and_then(|s| s.schedule.as_ref()).and_then(|s| told(s, &step.verdict));
        self.memory.judge(step, service.as_ref(), self.observed.wall);
        let job = self.memory.jobs.get(&of).cloned();
        if let Some((kind, message, wrong)) = told {
            let what = format!("{}/{}", of.0, of.1);
            noted.events.push(self.event(now, kind, what, message.clone()));
            self.note_job(&of, message, wrong, now);
        }
        noted.records.push(Change::Job { project: of.0, service: of.1, job: job.map(Box::new) });
    }

    /// Forgets services that run at set times no more.
    pub(super) fn forget_jobs(&mut self, noted: &mut Noted) {
        let desired = &self.desired;
        let scheduled = |(project, service): &(ProjectName, ServiceName)| {
            let by_file = desired.projects.get(project).and_then(|p| p.services.get(service));
            by_file.is_some_and(|s| s.schedule.is_some()) || desired.kept.contains(project)
        };
        let gone: Vec<_> = self.memory.jobs.keys().filter(|of| !scheduled(of)).cloned().collect();
        for (project, service) in gone {
            self.memory.jobs.remove(&(project.clone(), service.clone()));
            noted.records.push(Change::Job { project, service, job: None });
        }
    }

    /// Somebody asks for a run now.
    pub fn run_job(&mut self, project: &ProjectName, service: &ServiceName, now: Timestamp) -> Result<Noted, String> {
        let of = (project.clone(), service.clone());
        let scheduled = self.scheduled(&of).is_some();
        if !scheduled {
            return Err(format!(
                "{project}/{service} has no schedule; `longshore jobs` lists the services that have one"
            ));
        }
        let Some(job) = self.memory.jobs.get(&of) else {
            return Err(format!("{project}/{service} is not in force yet; ask again in a moment"));
        };
        if let Some(why) = self.stands_still(&of) {
            return Err(format!("{project}/{service} does not run: {why}"));
        }
        if job.run.is_some() {
            return Err(format!("a run of {project}/{service} is under way; wait for its end"));
        }
        let run = Run { due: self.observed.wall, why: RunWhy::ByHand };
        let mut noted = Noted::default();
        let step = JobStep { project: of.0, service: of.1, verdict: Verdict::Run(run) };
        self.judge(step, now, &mut noted);
        Ok(noted)
    }

    fn scheduled(&self, of: &(ProjectName, ServiceName)) -> Option<(&Service, &Schedule)> {
        let service = self.desired.projects.get(&of.0)?.services.get(&of.1)?;
        Some((service, service.schedule.as_ref()?))
    }

    /// Why nothing of it is begun, whatever the time.
    fn stands_still(&self, of: &(ProjectName, ServiceName)) -> Option<&'static str> {
        let hand = self.desired.by_hand.get(of);
        let (service, _) = self.scheduled(of)?;
        if hand.is_some_and(|hand| hand.stopped) {
            return Some(plan::Stopped::ByHand.reason());
        }
        if service.suspended {
            return Some(plan::Stopped::ByFile.reason());
        }
        hand.is_some_and(|hand| hand.paused).then_some("it is paused by hand")
    }

    pub(super) fn job_views(&self) -> Vec<JobView> {
        let services =
            self.desired.projects.values().flat_map(|p| p.services.keys().map(|s| (p.name.clone(), s.clone())));
        services.filter_map(|of| self.job_view(of)).collect()
    }

    fn job_view(&self, of: (ProjectName, ServiceName)) -> Option<JobView> {
        let (_, schedule) = self.scheduled(&of)?;
        let job = self.memory.jobs.get(&of);
        let after = job.map_or(self.observed.wall, |job| job.decided.max(self.observed.wall));
        let idle = self.stands_still(&of);
        let next = schedule.after(after).filter(|_| idle.is_none());
        let past = |past: &PastRun| JobRunView {
            due: past.due,
            told: schedule.told(past.due),
            why: past.why,
            outcome: Some(past.outcome.clone()),
        };
        let now = job.and_then(|job| job.run.as_ref()).map(|run| JobRunView {
            due: run.of.due,
            told: schedule.told(run.of.due),
            why: run.of.why,
            outcome: None,
        });
        Some(JobView {
            project: of.0,
            service: of.1,
            schedule: schedule.to_string(),
            timezone: schedule.zone.name.clone(),
            idle,
            next,
            next_told: next.map(|next| schedule.told(next)),
            queued: job.and_then(|job| job.queued),
            run: now,
            history: job.map(|job| job.history.iter().map(past).collect()).unwrap_or_default(),
        })
    }
}

/// What is told of a decision: the kind of event, a sentence, and whether something is wrong.
fn told(schedule: &Schedule, verdict: &Verdict) -> Option<(&'static str, String, bool)> {
    let at = |due: Timestamp| schedule.told(due);
    Some(match verdict {
        Verdict::Begin { schedule: key, .. } => ("job.scheduled", format!("it runs by `{key}`"), false),
        Verdict::Rewound => {
            let message = "the clock was set back by hours: times count anew from now on".to_owned();
            ("job.scheduled", message, true)
        }
        Verdict::Run(Run { due, why: RunWhy::ByHand }) => ("job.due", format!("run by hand at {}", at(*due)), false),
        Verdict::Run(Run { due, why }) => ("job.due", format!("the run of {} ({})", at(*due), why.as_str()), false),
        Verdict::Queue(due) => ("job.queued", format!("the run of {} waits for the one before", at(*due)), false),
        Verdict::Stop(why) => ("job.stopped", why.clone(), true),
        Verdict::Leave { due, times: 1, why } => ("job.left", format!("{} was left out: {why}", at(*due)), true),
        Verdict::Leave { due, times, why } => {
            ("job.left", format!("{times} times up to {} were left out: {why}", at(*due)), true)
        }
        Verdict::End(RunOutcome::Left { why, .. }) => ("job.failed", why.clone(), true),
        Verdict::End(outcome @ RunOutcome::Ended { status, started, at, stopped }) => {
            let kind = if outcome.success() { "job.done" } else { "job.failed" };
            let stopped = stopped.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
            (kind, format!("{status} after {} ms{stopped}", at.since(*started)), !outcome.success())
        }
        Verdict::Adopt(run) => ("job.adopted", format!("the run of {} goes on", at(run.due)), false),
        Verdict::Begun => return None,
    })
}
