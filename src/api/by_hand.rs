//! `POST /api/v1/by-hand`: stop, start, restart, kill, pause, unpause, scale, release.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use futures_util::future::BoxFuture;

use super::commands::ask;
use super::error::ApiError;
use super::openapi::{Answer, Ask, Operation, of, post};
use super::wire::{HandAsk, HandDone};
use super::{Command, Doors};
use crate::model::{ContainerId, Signal};
use crate::reconcile::{Disobeyed, Obeyed, Order, Verb};

/// Sends signals to containers.
pub trait Signals: Send + Sync {
    /// To the main process of a container that runs; `Err` says why it was not sent.
    fn send(&self, id: ContainerId, signal: Signal) -> BoxFuture<'static, Result<(), String>>;
}

pub(super) fn operations() -> Vec<Operation> {
    vec![post(
        "/api/v1/by-hand",
        "Asks something of services by hand (verb: stop, start, restart, kill, pause, unpause, scale, release), over what their files say; answers once it is \
         what should be, and the status shows when it is so. All of it or nothing",
        Ask::Json(of::<HandAsk>),
        Answer::Json(of::<HandDone>),
    )]
}

/// Makes it what should be.
pub(super) async fn order(
    State(doors): State<Doors>,
    body: Result<Json<HandAsk>, JsonRejection>,
) -> Result<Json<HandDone>, ApiError> {
    let Json(asked) = body.map_err(|err| ApiError::BadRequest { message: err.body_text() })?;
    let orders = orders(&doors, asked)?;
    let answer = ask(&doors, |reply| Command::ByHand { orders, reply }).await?;
    let Obeyed { services, containers } = answer.map_err(refusal)?;
    for (id, signal) in containers {
        let sent = doors.signals.send(id, signal).await;
        sent.map_err(|message| ApiError::NotSo { message, hint: None })?;
    }
    Ok(Json(HandDone { services: services.iter().map(|(project, service)| format!("{project}/{service}")).collect() }))
}

fn orders(doors: &Doors, asked: HandAsk) -> Result<Vec<Order>, ApiError> {
    let each = |names: Vec<String>, verb| names.into_iter().map(|name| Order { name, verb }).collect();
    Ok(match asked {
        HandAsk::Stop { names, grace_ms } => each(names, Verb::Stop { grace_ms }),
        HandAsk::Start { names } => each(names, Verb::Start),
        HandAsk::Restart { names, grace_ms } => each(names, Verb::Restart { grace_ms }),
        HandAsk::Kill { names, signal } => {
            let text = signal.as_deref().unwrap_or("KILL");
            let unknown = || ApiError::BadRequest { message: format!("{text:?} is not a signal") };
            each(names, Verb::Kill { signal: Signal::parse(text).ok_or_else(unknown)? })
        }
        HandAsk::Pause { names } => each(names, Verb::Pause),
        HandAsk::Unpause { names } => each(names, Verb::Unpause),
        HandAsk::Scale { replicas } => {
            replicas.into_iter().map(|(name, replicas)| Order { name, verb: Verb::Scale { replicas } }).collect()
        }
        HandAsk::Release { names } if names.is_empty() => each(overridden(doors), Verb::Release),
        HandAsk::Release { names } => each(names, Verb::Release),
    })
}

/// All of which something was asked.
fn overridden(doors: &Doors) -> Vec<String> {
    let view = doors.now();
    let services = view.projects.iter().flat_map(|p| p.services.iter().map(move |s| (&p.name, s)));
    let asked = services.filter(|(_, service)| service.by_hand.is_some());
    asked.map(|(project, service)| format!("{project}/{}", service.name)).collect()
}

fn refusal(why: Disobeyed) -> ApiError {
    match why {
        Disobeyed::Unknown { name, nearest } => ApiError::NoService { name, nearest },
        Disobeyed::Ambiguous { name, candidates } => ApiError::Ambiguous { name, candidates },
        Disobeyed::Refused { message, hint } => ApiError::NotSo { message, hint },
    }
}
