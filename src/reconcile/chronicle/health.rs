//! What a service's causes say of health: who became unhealthy and what its check said, and who got over it.
//!
//! One that is restarted for it and becomes unhealthy again, as before, is one cause with a count: its stops and starts are told by
//! that, and do not push out what began it.

use super::{Chronicle, ROW_MS, cause, key_of};
use crate::model::{Cause, CauseKind, Slot, Timestamp};

impl Chronicle {
    /// A check failed as often as it may.
    pub(in crate::reconcile) fn unhealthy(&mut self, slot: &Slot, name: &str, said: &str, now: Timestamp) {
        let key = key_of(slot);
        let mut new = cause(CauseKind::Unhealthy, name.to_owned(), format!("unhealthy: {said}"), now);
        let causes = self.of.entry(key.clone()).or_default();
        let before = causes.iter().rposition(|c| c.subject == name && c.kind == CauseKind::Unhealthy);
        if let Some(at) = before.filter(|at| goes_on(&new, &causes[*at], &causes[at + 1..])) {
            (new.at, new.times) = (causes[at].at, causes[at].times.saturating_add(1));
            // What was done about it goes with it.
            let later = causes.split_off(at);
            causes.extend(later.into_iter().filter(|c| c.subject != name));
        }
        self.push(key, new);
    }

    /// A check went well. Told of who was unhealthy.
    pub(in crate::reconcile) fn healthy(&mut self, slot: &Slot, name: &str, now: Timestamp) {
        let key = key_of(slot);
        let of_health = |c: &&Cause| c.subject == name && matches!(c.kind, CauseKind::Unhealthy | CauseKind::Healthy);
        let last = self.of.get(&key).and_then(|causes| causes.iter().rev().find(of_health));
        if last.is_some_and(|last| last.kind == CauseKind::Unhealthy) {
            self.push(key, cause(CauseKind::Healthy, name.to_owned(), "its health check went well".to_owned(), now));
        }
    }
}

/// Whether it is unhealthy as it was, and nothing came between but what is done about that; health only for a short time.
fn goes_on(new: &Cause, before: &Cause, later: &[Cause]) -> bool {
    let soon = new.last.since(before.last) < ROW_MS;
    let same = |c: &&Cause| c.subject == new.subject;
    before.text == new.text && later.iter().filter(same).all(|c| for_health(c, soon))
}

fn for_health(cause: &Cause, soon: bool) -> bool {
    match cause.kind {
        CauseKind::Done => cause.reason.as_ref().is_some_and(|reason| reason.starts_with("unhealthy: ")),
        CauseKind::Ended => cause.text.ends_with(super::ASKED),
        CauseKind::Healthy => soon,
        CauseKind::Edited
        | CauseKind::Dropped
        | CauseKind::Asked
        | CauseKind::Failed
        | CauseKind::Moved
        | CauseKind::Unhealthy
        | CauseKind::Version => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ServiceKey;
    use super::*;
    use crate::model::{ProjectName, ServiceName};

    fn slot() -> Slot {
        let (project, service) = (ProjectName::parse("shop").unwrap(), ServiceName::parse("web").unwrap());
        Slot { project, service, number: 1 }
    }

    fn told(chronicle: &Chronicle) -> Vec<String> {
        let key: ServiceKey = key_of(&slot());
        let causes = chronicle.causes(&key).unwrap_or_default();
        causes.iter().map(|c| format!("{} {} {} {}", c.subject, c.kind.as_str(), c.text, c.times)).collect()
    }

    /// As a restart for health is told.
    fn is_restarted(chronicle: &mut Chronicle, at: u64) {
        let because = Some("unhealthy: refused".to_owned());
        for (kind, text, reason) in [
            (CauseKind::Ended, "exit code 0, as it was stopped", None),
            (CauseKind::Done, "stopped", because.clone()),
            (CauseKind::Done, "started", because),
        ] {
            let done = cause(kind, "shop-web-1".to_owned(), text.to_owned(), Timestamp(at));
            chronicle.push(key_of(&slot()), Cause { reason, ..done });
        }
    }

    #[test]
    fn who_is_restarted_for_its_health_again_and_again_is_one_cause() {
        let mut chronicle = Chronicle::default();
        chronicle.healthy(&slot(), "shop-web-1", Timestamp(0));
        assert_eq!(told(&chronicle), Vec::<String>::new(), "it was never unhealthy");
        for round in 0..100 {
            let at = round * 2 * ROW_MS;
            chronicle.unhealthy(&slot(), "shop-web-1", "refused", Timestamp(at));
            chronicle.unhealthy(&slot(), "shop-web-2", "refused", Timestamp(at));
            is_restarted(&mut chronicle, at);
        }
        let restarted = [
            "shop-web-2 unhealthy unhealthy: refused 100",
            "shop-web-1 ended exit code 0, as it was stopped 1",
            "shop-web-1 done stopped 1",
            "shop-web-1 done started 1",
        ];
        assert_eq!(told(&chronicle), [&["shop-web-1 unhealthy unhealthy: refused 100"][..], &restarted].concat());
        let at = 200 * ROW_MS;
        chronicle.healthy(&slot(), "shop-web-1", Timestamp(at));
        chronicle.healthy(&slot(), "shop-web-1", Timestamp(at));
        chronicle.unhealthy(&slot(), "shop-web-1", "refused", Timestamp(at));
        chronicle.unhealthy(&slot(), "shop-web-1", "empty", Timestamp(at));
        let seen = told(&chronicle);
        assert_eq!(
            seen[seen.len() - 3..],
            [
                "shop-web-1 healthy its health check went well 1",
                "shop-web-1 unhealthy unhealthy: refused 1",
                "shop-web-1 unhealthy unhealthy: empty 1",
            ]
        );
    }
}
