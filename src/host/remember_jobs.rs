//! What is remembered of services that run at set times, as records and back.

use crate::model::{ExitStatus, PastRun, Run, RunOutcome, RunWhy, Timestamp};
use crate::plan::{Job, JobRun};
use crate::store::{PastRunRecord, RunOutcomeRecord, RunRecord, Runs};

pub(super) fn record(job: Job) -> Runs {
    let Job { schedule, decided, run, queued, history } = job;
    let past = |PastRun { due, why, outcome }| PastRunRecord {
        due: Timestamp::millis(due),
        why: RunWhy::as_str(why).to_owned(),
        outcome: outcome_record(outcome),
    };
    let run = run.map(|JobRun { of, begun, stopped }| RunRecord {
        due: of.due.millis(),
        why: of.why.as_str().to_owned(),
        begun,
        stopped,
    });
    let queued = queued.map(Timestamp::millis);
    Runs { schedule, decided: decided.millis(), run, queued, history: history.into_iter().map(past).collect() }
}

fn outcome_record(outcome: RunOutcome) -> RunOutcomeRecord {
    match outcome {
        RunOutcome::Ended { started, at, status, stopped } => {
            let (how, number) = match status {
                ExitStatus::Code(code) => ("code", Some(code)),
                ExitStatus::Signal(signal) => ("signal", Some(signal)),
                ExitStatus::OomKilled => ("oom_killed", None),
                ExitStatus::AfterOom(code) => ("after_oom", Some(code)),
                ExitStatus::MachineStopped => ("machine_stopped", None),
                ExitStatus::ShimLost => ("shim_lost", None),
            };
            let (started, ended) = (started.millis(), at.millis());
            RunOutcomeRecord::Ended { started, ended, how: how.to_owned(), number, stopped }
        }
        RunOutcome::Left { times, why } => RunOutcomeRecord::Left { times, reason: why },
    }
}

/// Back from its record. What a newer version wrote and this one does not know is left out.
#[must_use]
pub fn job(record: &Runs) -> Job {
    let run = |record: &RunRecord| {
        let of = Run { due: Timestamp(record.due), why: RunWhy::parse(&record.why)? };
        Some(JobRun { of, begun: record.begun, stopped: record.stopped.clone() })
    };
    let past = |record: &PastRunRecord| {
        let why = RunWhy::parse(&record.why)?;
        Some(PastRun { due: Timestamp(record.due), why, outcome: outcome(&record.outcome)? })
    };
    Job {
        schedule: record.schedule.clone(),
        decided: Timestamp(record.decided),
        run: record.run.as_ref().and_then(run),
        queued: record.queued.map(Timestamp),
        history: record.history.iter().filter_map(past).collect(),
    }
}

fn outcome(record: &RunOutcomeRecord) -> Option<RunOutcome> {
    Some(match record {
        RunOutcomeRecord::Ended { started, ended, how, number, stopped } => {
            let status = match (how.as_str(), *number) {
                ("code", Some(code)) => ExitStatus::Code(code),
                ("signal", Some(signal)) => ExitStatus::Signal(signal),
                ("oom_killed", _) => ExitStatus::OomKilled,
                ("after_oom", Some(code)) => ExitStatus::AfterOom(code),
                ("machine_stopped", _) => ExitStatus::MachineStopped,
                ("shim_lost", _) => ExitStatus::ShimLost,
                _ => return None,
            };
            RunOutcome::Ended { started: Timestamp(*started), at: Timestamp(*ended), status, stopped: stopped.clone() }
        }
        RunOutcomeRecord::Left { times, reason } => RunOutcome::Left { times: *times, why: reason.clone() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let all = [
            ExitStatus::Code(3),
            ExitStatus::Signal(9),
            ExitStatus::OomKilled,
            ExitStatus::AfterOom(1),
            ExitStatus::MachineStopped,
            ExitStatus::ShimLost,
        ];
        let ended = all.map(|status| RunOutcome::Ended {
            started: Timestamp(5),
            at: Timestamp(9),
            status,
            stopped: status.success().then(|| "late".to_owned()),
        });
        let left = RunOutcome::Left { times: 7, why: "skip".to_owned() };
        let history = ended.into_iter().chain([left]);
        let history = history.map(|outcome| PastRun { due: Timestamp(4), why: RunWhy::Queued, outcome }).collect();
        let of = Run { due: Timestamp(11), why: RunWhy::ByHand };
        let run = Some(JobRun { of, begun: true, stopped: Some("x".to_owned()) });
        let whole =
            Job { schedule: "@daily".to_owned(), decided: Timestamp(8), run, queued: Some(Timestamp(9)), history };
        assert_eq!(job(&record(whole.clone())), whole);
        assert_eq!(job(&record(Job::default())), Job::default());
    }
}
