//! Waits: for the folder, the host, an action's end, a command or the clock; then lets the reconciler decide and performs it.

use std::collections::VecDeque;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};

use super::by_hand::{Answer as Obeying, Order, ServiceKey};
use super::describe::Surroundings;
use super::generations::{Answer, Comparison, HistoryView, Question, Wish};
use super::host::{ActionError, Change, Gauges, Host};
use super::reconciler::{Noted, Reconciler};
use super::view::{Event, View};
use crate::model::{Cause, ContainerId, ContainerName, Key, Moment, ProjectName, ServiceName, TaskAsk, Timestamp};
use crate::source::Source;

/// The progress of pulls is shown this often while one runs.
const PROGRESS: Duration = Duration::from_millis(250);
/// What could not be brought to disk is tried again after this time.
const SAVE_AGAIN: Duration = Duration::from_secs(5);
/// Actions under way have this long to end when the daemon stops.
const STOPPING: Duration = Duration::from_secs(8);

/// What can be asked of the loop.
#[derive(Debug)]
pub enum Command {
    /// The owner confirms what the mass-delete fuse holds.
    Confirm(oneshot::Sender<Result<(), String>>),
    /// Something is asked of services by hand; whoever asks is told once the view shows it.
    ByHand(Vec<Order>, oneshot::Sender<Obeying>),
    /// Write the state of everything to the log.
    Dump,
    /// Look at the folder now; whoever asks is told once what was seen is acted upon.
    Look(Option<oneshot::Sender<()>>),
    /// Tell what happened to a service; none where nothing is known of it.
    Why(ProjectName, ServiceName, oneshot::Sender<Option<Vec<Cause>>>),
    /// Tell the generations of a service; none where nothing is known of it.
    History(ProjectName, ServiceName, oneshot::Sender<Option<HistoryView>>),
    /// Tell how two generations of a service differ.
    Compare(ProjectName, ServiceName, u32, Option<u32>, oneshot::Sender<Result<Comparison, String>>),
    /// Go back, or try again what is set aside: of a service, or of all of a project. Answered once it is on disk.
    Wish(ProjectName, Option<ServiceName>, Wish, oneshot::Sender<Result<Vec<String>, String>>),
    /// Run a service now that runs at set times.
    RunJob(ProjectName, ServiceName, oneshot::Sender<Result<(), String>>),
    /// Run a service's container once more, with another command; what it is called.
    RunTask(ProjectName, ServiceName, Box<TaskAsk>, oneshot::Sender<Result<(ContainerId, ContainerName), String>>),
    /// End and remove such a container.
    EndTask(String, oneshot::Sender<Result<(), String>>),
    /// Answer, to show that the loop goes round.
    Alive(oneshot::Sender<()>),
    /// Take no new step, let what is under way end, and return.
    Stop,
}

/// How the loop is heard and spoken to.
pub struct Channels {
    /// The latest view.
    pub view: watch::Sender<Arc<View>>,
    /// Is told everything that happens; must not block.
    pub events: Box<dyn Fn(Event) + Send>,
    /// What is asked.
    pub commands: mpsc::Receiver<Command>,
}

/// Runs until it is told to stop.
pub async fn run<H: Host>(
    reconciler: Reconciler,
    source: Source,
    folder: std::path::PathBuf,
    host: Arc<H>,
    channels: Channels,
) {
    let mut running = Loop {
        reconciler,
        source,
        folder,
        host,
        channels,
        clock: Clock::start(),
        actions: JoinSet::new(),
        saves: JoinSet::new(),
        to_save: VecDeque::new(),
        unsaved: None,
        save_again: None,
        revision: 0,
        lookers: Vec::new(),
        looked: false,
        hold: 0,
        obeyed: Vec::new(),
        questions: JoinSet::new(),
        ask_again: None,
        wishers: Vec::new(),
        granted: Vec::new(),
    };
    running.go().await;
}

struct Loop<H> {
    reconciler: Reconciler,
    source: Source,
    folder: std::path::PathBuf,
    host: Arc<H>,
    channels: Channels,
    clock: Clock,
    actions: JoinSet<(Key, Result<(), ActionError>)>,
    saves: JoinSet<Result<(), String>>,
    to_save: VecDeque<Change>,
    unsaved: Option<String>,
    save_again: Option<Instant>,
    revision: u64,
    /// Who asked for a look, and is told with the next view.
    lookers: Vec<oneshot::Sender<()>>,
    /// A look was taken in; the next view shows what it led to.
    looked: bool,
    /// So many saves end before the next step: what is asked by hand is on disk before it is begun, or is known not to get there.
    hold: u8,
    /// Who is told with the next view what became of what they asked.
    obeyed: Vec<(oneshot::Sender<Obeying>, Obeying)>,
    /// Questions at registries that fetch nothing.
    questions: JoinSet<(ServiceKey, Question, Result<Answer, ActionError>)>,
    ask_again: Option<Instant>,
    /// Who wished something that is not on its way to the disk yet, and who is told once it is there.
    wishers: Vec<Wisher>,
    granted: Vec<Wisher>,
}

/// Who wished something, and the answer.
type Wisher = (oneshot::Sender<Result<Vec<String>, String>>, Vec<String>);

impl<H: Host> Loop<H> {
    async fn go(&mut self) {
        loop {
            let wake = self.wake();
            // Every arm may be cancelled: what it waits for stays where it is until it is taken.
            tokio::select! {
                look = self.source.next() => self.looked(&look),
                Some(done) = self.actions.join_next() => self.finished(done),
                Some(saved) = self.saves.join_next() => self.saved(saved),
                Some(answer) = self.questions.join_next() => self.answered(answer),
                command = self.channels.commands.recv() => match command {
                    Some(Command::Stop) | None => break,
                    Some(command) => self.command(command),
                },
                () = self.host.changed() => {}
                () = sleep_until(wake) => {}
            }
            // What happened meanwhile is answered together.
            while let Some(done) = self.actions.try_join_next() {
                self.finished(done);
            }
            self.step();
        }
        self.finish().await;
    }

    fn wake(&self) -> Option<Instant> {
        let planned = self.reconciler.wake_at().map(|at| self.clock.instant(at));
        let pulling = self.reconciler.under_way.keys().any(|key| matches!(key, Key::Image(_)))
            || !self.reconciler.transfers.0.is_empty();
        let progress = pulling.then(|| Instant::now() + PROGRESS);
        [planned, progress, self.save_again, self.ask_again].into_iter().flatten().min()
    }

    fn step(&mut self) {
        if self.reconciler.ready() && self.hold == 0 {
            self.automatic();
            let (steps, noted) = self.reconciler.step(self.host.observe(), self.clock.now());
            for step in steps {
                tracing::debug!(verb = step.action.verb(), what = %step.action.key(), reason = step.reason, "step");
                let host = Arc::clone(&self.host);
                let key = step.action.key();
                let before = self.reconciler.before(&key);
                self.actions.spawn(async move {
                    if let Some(change) = before
                        && let Err(error) = host.record(vec![change]).await
                    {
                        tracing::warn!(
                            error,
                            "what is being done cannot be brought to disk first; it is done all the same"
                        );
                    }
                    // A panic is one more way to fail; it must not leave the action under way for ever.
                    let applied = AssertUnwindSafe(host.apply(step.action)).catch_unwind().await;
                    let broken =
                        |_| ActionError { message: "an internal check failed".to_owned(), retry_after_ms: None };
                    (key, applied.unwrap_or_else(|panic| Err(broken(panic))))
                });
            }
            self.tell(noted);
        }
        let gauges = self.host.gauges();
        let noted = self.reconciler.progressed(&gauges.transfers, self.clock.now());
        self.tell(noted);
        self.save();
        self.publish(gauges);
    }

    /// What is taken by itself: what time it is, and what is asked.
    fn automatic(&mut self) {
        let (questions, noted, wake) = self.reconciler.automatic(moment(), self.clock.now());
        self.ask_again = wake.map(|at| self.clock.instant(at));
        self.tell(noted);
        for (key, question) in questions {
            let host = Arc::clone(&self.host);
            self.questions.spawn(async move {
                let answer = host.ask(question.clone()).await;
                (key, question, answer)
            });
        }
    }

    fn answered(&mut self, answer: Result<(ServiceKey, Question, Result<Answer, ActionError>), JoinError>) {
        match answer {
            Ok((key, question, result)) => {
                let noted = self.reconciler.answered(&key, &question, result, self.clock.now());
                self.tell(noted);
            }
            Err(error) => tracing::debug!(%error, "a question was given up"),
        }
    }

    fn looked(&mut self, look: &crate::source::Look) {
        self.looked = true;
        let noted = self.reconciler.looked(look, self.clock.now());
        self.source.answered(&noted.changes.answered);
        if noted.changes.look_again {
            self.source.look_in(super::ledger::ABSENT_MS + 10);
        }
        self.tell(noted);
    }

    fn finished(&mut self, done: Result<(Key, Result<(), ActionError>), JoinError>) {
        match done {
            Ok((key, result)) => {
                let noted = self.reconciler.finished(&key, result, self.clock.now());
                self.tell(noted);
            }
            Err(error) => tracing::debug!(%error, "an action was given up"),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Confirm(reply) => {
                let answer = self.reconciler.confirm();
                self.source.look_soon();
                if reply.send(answer).is_err() {
                    tracing::debug!("nobody waits for the answer to a confirmation any more");
                }
            }
            Command::ByHand(orders, reply) => {
                let (answer, noted) = self.reconciler.obey(&orders, self.clock.now());
                if !noted.records.is_empty() {
                    self.hold = 1 + u8::from(!self.saves.is_empty());
                }
                self.tell(noted);
                self.obeyed.push((reply, answer));
            }
            Command::Dump => tracing::info!(state = ?self.reconciler, "the state of the reconciler, as asked for"),
            Command::Look(reply) => {
                self.source.look_soon();
                self.lookers.extend(reply);
            }
            Command::Why(project, service, reply) => {
                if reply.send(self.reconciler.causes_of(&project, &service)).is_err() {
                    tracing::debug!("nobody waits for what happened to {project}/{service} any more");
                }
            }
            Command::History(project, service, reply) => {
                if reply.send(self.reconciler.history_of(&project, &service)).is_err() {
                    tracing::debug!("nobody waits for the generations of {project}/{service} any more");
                }
            }
            Command::Compare(project, service, from, to, reply) => {
                if reply.send(self.reconciler.compare(&project, &service, from, to)).is_err() {
                    tracing::debug!("nobody waits for a comparison any more");
                }
            }
            Command::RunJob(project, service, reply) => {
                let asked = self.reconciler.run_job(&project, &service, self.clock.now());
                let answer = asked.map(|noted| self.tell(noted));
                if reply.send(answer).is_err() {
                    tracing::debug!("nobody waits for the answer to a run of {project}/{service} any more");
                }
            }
            Command::RunTask(project, service, ask, reply) => {
                if reply.send(self.reconciler.run_task(&project, &service, &ask)).is_err() {
                    tracing::debug!("nobody waits for the answer to a run of {project}/{service} any more");
                }
            }
            Command::EndTask(name, reply) => {
                if reply.send(self.reconciler.end_task(&name)).is_err() {
                    tracing::debug!(name, "nobody waits for the end of a run any more");
                }
            }
            Command::Wish(project, service, wish, reply) => {
                let (answer, noted) = self.reconciler.wish(&project, service.as_ref(), &wish, self.clock.now());
                self.tell(noted);
                match answer {
                    Ok(said) => self.wishers.push((reply, said)),
                    Err(why) => {
                        if reply.send(Err(why)).is_err() {
                            tracing::debug!("nobody waits for the answer to a wish any more");
                        }
                    }
                }
            }
            Command::Alive(reply) => {
                if reply.send(()).is_err() {
                    tracing::debug!("nobody waits for a sign of life any more");
                }
            }
            Command::Stop => {}
        }
    }

    fn tell(&mut self, noted: Noted) {
        self.to_save.extend(noted.records);
        for event in noted.events {
            let (kind, what, message) = (event.kind, &event.what, &event.message);
            if kind.ends_with("failed") || kind.ends_with("problem") || kind.ends_with("held") {
                tracing::warn!(kind, what, "{message}");
            } else {
                tracing::info!(kind, what, "{message}");
            }
            (self.channels.events)(event);
        }
    }

    /// One save at a time; what comes meanwhile goes with the next.
    fn save(&mut self) {
        self.to_save.extend(self.reconciler.chronicle.changes());
        let again = self.save_again.is_some_and(|at| at <= Instant::now());
        let dirty = self.reconciler.generations.dirty();
        if !self.saves.is_empty() || (self.to_save.is_empty() && !again && !dirty) {
            return;
        }
        self.save_again = None;
        self.to_save.extend(self.reconciler.generation_changes());
        self.granted.append(&mut self.wishers);
        let changes: Vec<Change> = self.to_save.drain(..).collect();
        let host = Arc::clone(&self.host);
        self.saves.spawn(async move { host.record(changes).await });
    }

    fn saved(&mut self, saved: Result<Result<(), String>, JoinError>) {
        self.hold = self.hold.saturating_sub(1);
        let failure = saved.unwrap_or_else(|_| Err("an internal check failed".to_owned())).err();
        if let Some(error) = &failure {
            if self.unsaved.as_ref() != Some(error) {
                tracing::error!(error, "what was decided cannot be brought to disk; it is tried again");
            }
            self.save_again = Some(Instant::now() + SAVE_AGAIN);
        }
        if failure.is_none() {
            // What is decided acts from here on.
            let noted = self.reconciler.recorded(self.clock.now());
            self.tell(noted);
            for (reply, said) in self.granted.drain(..) {
                if reply.send(Ok(said)).is_err() {
                    tracing::debug!("nobody waits for the answer to a wish any more");
                }
            }
        }
        self.unsaved = failure;
    }

    fn publish(&mut self, gauges: Gauges) {
        let around = Surroundings {
            now: self.clock.now(),
            revision: self.revision,
            folder: &self.folder,
            watching: self.source.watching().to_string(),
            unsaved: self.unsaved.clone(),
            saving: !self.saves.is_empty() || !self.to_save.is_empty() || self.reconciler.generations.dirty(),
            gauges,
        };
        let mut view = self.reconciler.view(&around);
        let before = self.channels.view.borrow().clone();
        // A moment later with nothing new is the same view. It is long: it is compared where it lies.
        let at = std::mem::replace(&mut view.at, before.at);
        let same = view == *before;
        view.at = at;
        if !same {
            self.revision += 1;
            view.revision = self.revision;
            self.channels.view.send_replace(Arc::new(view));
        }
        // What is shown before that is on disk knows nothing of it.
        let obeyed = if self.hold == 0 { std::mem::take(&mut self.obeyed) } else { Vec::new() };
        for (reply, answer) in obeyed {
            if reply.send(answer).is_err() {
                tracing::debug!("nobody waits for the answer to what was asked by hand any more");
            }
        }
        if std::mem::take(&mut self.looked) {
            for looker in self.lookers.drain(..) {
                if looker.send(()).is_err() {
                    tracing::debug!("nobody waits for the look any more");
                }
            }
        }
    }

    /// Pulls are dropped, they can be begun again; the rest has a moment to end.
    async fn finish(&mut self) {
        let until = Instant::now() + STOPPING;
        let pulling = |key: &Key| matches!(key, Key::Image(_));
        while self.reconciler.under_way.keys().any(|key| !pulling(key)) {
            match tokio::time::timeout_at(until.into(), self.actions.join_next()).await {
                Ok(Some(done)) => self.finished(done),
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!("actions under way did not end in time; they are taken up again at the next start");
                    break;
                }
            }
        }
        self.actions.abort_all();
        while let Some(saved) = self.saves.join_next().await {
            self.saved(saved);
        }
        self.to_save.extend(self.reconciler.chronicle.changes());
        self.to_save.extend(self.reconciler.generation_changes());
        let changes: Vec<Change> = self.to_save.drain(..).collect();
        if let Err(error) = self.host.record(changes).await {
            tracing::error!(error, "what was decided last could not be brought to disk");
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// What time it is by the host's clock and time zone, which may be put right at any time.
fn moment() -> Moment {
    let now = jiff::ZonedDateTime::now();
    let day = u8::try_from(now.weekday().to_monday_zero_offset()).unwrap_or(0);
    let minute = i32::from(now.hour()) * 60 + i32::from(now.minute());
    Moment { day, minute: u16::try_from(minute).unwrap_or(0) }
}

/// Wall time at the start, carried on by the monotonic clock: it neither jumps nor goes backwards.
struct Clock {
    begun: Instant,
    at: u64,
}

impl Clock {
    fn start() -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0));
        Self { begun: Instant::now(), at }
    }
    fn now(&self) -> Timestamp {
        Timestamp(self.at + u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(0))
    }
    fn instant(&self, at: Timestamp) -> Instant {
        // One more millisecond: waking a fraction too early would find nothing due.
        self.begun + Duration::from_millis(at.millis().saturating_sub(self.at) + 1)
    }
}
