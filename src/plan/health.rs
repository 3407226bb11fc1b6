//! The rules for containers that are unhealthy: restarted, within a budget; stopped; or only told.
//!
//! ```text
//! Unhealthy ─ restart ─▶ the first times at once, then after a pause that doubles; who is healthy for long has all of them again
//!           ├ stop ────▶ Stop ─▶ stays so until its file says otherwise, or it is started for another reason
//!           └ none ────▶ told
//! ```
//! A restart is a move (see `slot`): stopped once it could be started again, then started whatever its restart policy says of its end.

use super::Planner;
use crate::model::{ContainerId, ContainerState, Health, Key, ObservedContainer, OnUnhealthy, Service, Timestamp};

/// So many restarts come at once.
const AT_ONCE: u32 = 3;
/// The pause after the last one of them, since it was done; doubled each time.
const FIRST_PAUSE_MS: u64 = 10_000;
const LONGEST_PAUSE_MS: u64 = 600_000;
/// Who is healthy so long after a restart has got over it.
const OVER_IT_MS: u64 = 600_000;

/// How often a container was restarted because it was unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cures {
    /// Since it was made.
    pub total: u32,
    /// With no long time in health between.
    pub streak: u32,
    /// When the last one was begun, on the planner's own clock.
    pub at: Timestamp,
}

impl Cures {
    /// One more is begun.
    pub(super) fn note(&mut self, now: Timestamp) {
        (self.total, self.streak, self.at) = (self.total.saturating_add(1), self.streak.saturating_add(1), now);
    }

    /// It is seen to be healthy.
    pub(super) fn healthy(&mut self, now: Timestamp) {
        if now.since(self.at) >= OVER_IT_MS {
            self.streak = 0;
        }
    }

    /// When the next one may be done.
    fn due(self) -> Timestamp {
        let Some(paused) = self.streak.checked_sub(AT_ONCE) else { return Timestamp::default() };
        let factor = 1_u64.checked_shl(paused).unwrap_or(u64::MAX);
        self.at.plus_ms(FIRST_PAUSE_MS.saturating_mul(factor).min(LONGEST_PAUSE_MS))
    }
}

/// What is to be done about a container's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Nothing,
    /// Its first good check is waited for.
    Starting,
    /// It is stopped and started again, for this reason; or that has begun.
    Restart(String),
    /// It is too early to restart it again.
    Pause { said: String, restarts: u32, until: Timestamp },
    /// It is stopped; what its last check said.
    Stop(String),
    /// It was stopped, and stays so.
    Stays(String),
    /// It is told.
    Told(String),
}

pub(super) fn verdict(planner: &Planner<'_>, container: &ObservedContainer, service: &Service) -> Verdict {
    let id = &container.spec.id;
    let memory = planner.facts.memory;
    let reaction = service.health.reaction(service.restart);
    let begun = || memory.moving.get(id).filter(|_| memory.curing.contains(id)).cloned();
    let given_up = memory.given_up.get(id).cloned();
    match container.state {
        ContainerState::Running { .. } if planner.facts.under_way.contains_key(&Key::Container(id.clone())) => {
            let stopping = given_up.map(Verdict::Stop);
            stopping.or_else(|| begun().map(Verdict::Restart)).unwrap_or(Verdict::Nothing)
        }
        ContainerState::Running { .. } => of_running(planner, id, reaction),
        ContainerState::Exited { .. } => match given_up.filter(|_| reaction == OnUnhealthy::Stop) {
            Some(said) => Verdict::Stays(said),
            None => begun().map_or(Verdict::Nothing, Verdict::Restart),
        },
        ContainerState::Created | ContainerState::StartFailed { .. } | ContainerState::Orphaned { .. } => {
            Verdict::Nothing
        }
    }
}

/// What was begun is kept in mind, whatever else is to be done first: until it runs again, or its file says otherwise.
pub(super) fn keep(planner: &mut Planner<'_>, container: &ObservedContainer, service: &Service) {
    let id = &container.spec.id;
    let memory = planner.facts.memory;
    let running = matches!(container.state, ContainerState::Running { .. });
    if running && !planner.facts.under_way.contains_key(&Key::Container(id.clone())) {
        return;
    }
    let stays = running || service.health.reaction(service.restart) == OnUnhealthy::Stop;
    if let Some(said) = memory.given_up.get(id).filter(|_| stays) {
        planner.plan.given_up.insert(id.clone(), said.clone());
    }
    if let Some(reason) = memory.moving.get(id).filter(|_| memory.curing.contains(id)) {
        planner.plan.moving.insert(id.clone(), reason.clone());
        planner.plan.curing.insert(id.clone());
    }
}

fn of_running(planner: &Planner<'_>, id: &ContainerId, reaction: OnUnhealthy) -> Verdict {
    let observed = planner.facts.observed;
    // Who is held still cannot answer.
    if observed.paused.contains(id) {
        return Verdict::Nothing;
    }
    match observed.health.get(id) {
        None | Some(Health::Healthy) => return Verdict::Nothing,
        Some(Health::Starting) => return Verdict::Starting,
        Some(Health::Unhealthy) => {}
    }
    let said = observed.complaints.get(id).cloned().unwrap_or_default();
    match reaction {
        OnUnhealthy::Nothing => Verdict::Told(said),
        OnUnhealthy::Stop => Verdict::Stop(said),
        OnUnhealthy::Restart => {
            let cures = planner.facts.memory.cures.get(id).copied().unwrap_or_default();
            let until = cures.due();
            if until > planner.facts.now {
                Verdict::Pause { said, restarts: cures.total, until }
            } else {
                Verdict::Restart(format!("unhealthy: {said}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_restarts_come_at_once_and_the_rest_ever_later() {
        let mut cures = Cures::default();
        let mut now = Timestamp(1_000_000);
        let pauses: Vec<u64> = (0..12)
            .map(|_| {
                let pause = cures.due().since(now);
                now = now.max(cures.due());
                cures.note(now);
                pause / 1_000
            })
            .collect();
        assert_eq!(pauses, [0, 0, 0, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
        cures.healthy(now.plus_ms(OVER_IT_MS - 1));
        assert_eq!(cures.streak, 12, "not for long enough");
        cures.healthy(now.plus_ms(OVER_IT_MS));
        assert_eq!((cures.streak, cures.total, cures.due()), (0, 12, Timestamp::default()));
        assert_eq!(Cures { total: 0, streak: u32::MAX, at: now }.due(), now.plus_ms(LONGEST_PAUSE_MS));
    }
}
