//! Hooks: commands in a container after its start and before its stop.
//!
//! Each is executed once for one start or stop: nothing of it is repeated when the daemon was killed meanwhile, and what it
//! executed then is hung up. One that fails is told; it stops neither the container nor those that come after it.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::observe::wall;
use crate::container::{Containers, ExecAsk, ExecStreams};
use crate::model::{ContainerId, EnvVar, Hook, HookFailure, sentence};

/// A hook after the start is ended after this time.
const LIMIT: Duration = Duration::from_secs(60);
/// So much of the end of what a failed one said is told.
const TOLD: usize = 400;
/// What its own children hold open is not waited for.
const LINGER: Duration = Duration::from_millis(100);

/// What became of them.
#[derive(Clone, Default)]
pub(super) struct Board(Arc<Inner>);

#[derive(Default)]
struct Inner {
    failures: Mutex<BTreeMap<ContainerId, HookFailure>>,
    news: Notify,
}

impl Board {
    /// The last one that failed, for each container that runs or ran.
    pub(super) fn failures(&self) -> BTreeMap<ContainerId, HookFailure> {
        self.all().clone()
    }

    pub(super) async fn changed(&self) {
        self.0.news.notified().await;
    }

    pub(super) fn forget(&self, id: &ContainerId) {
        self.all().remove(id);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<ContainerId, HookFailure>> {
        // Inserting and removing cannot leave the map half changed.
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, id: &ContainerId, text: String) {
        self.all().insert(id.clone(), HookFailure { at: wall(), text });
        self.0.news.notify_one();
    }

    /// After the start, in their order, beside what the container does.
    pub(super) fn started(&self, containers: &Containers, id: &ContainerId, hooks: &[Hook]) {
        self.forget(id);
        if hooks.is_empty() {
            return;
        }
        let (board, containers, id, hooks) = (self.clone(), containers.clone(), id.clone(), hooks.to_vec());
        tokio::spawn(async move {
            for (number, hook) in (1..).zip(&hooks) {
                // Where it has ended meanwhile there is nothing to execute in, and its end is told.
                if containers.init(&id).is_none() {
                    return;
                }
                if let Err(why) = execute(&containers, &id, hook, Instant::now() + LIMIT).await {
                    board.failed(&id, told("post_start", number, hook, &why));
                }
            }
        });
    }

    /// Before the stop, in their order, until `end` at the latest.
    pub(super) async fn stopping(&self, containers: &Containers, id: &ContainerId, hooks: &[Hook], end: Instant) {
        for (number, hook) in (1..).zip(hooks) {
            if containers.init(id).is_none() {
                return;
            }
            let why = match Instant::now() < end {
                true => execute(containers, id, hook, end).await.err(),
                false => Some("stop_grace_period was over before its turn".to_owned()),
            };
            if let Some(why) = why {
                self.failed(id, told("pre_stop", number, hook, &why));
            }
        }
    }
}

fn told(key: &str, number: usize, hook: &Hook, why: &str) -> String {
    let program = hook.command.first().map_or("", String::as_str);
    format!("{key} hook {number} ({program}): {why}")
}

async fn execute(containers: &Containers, id: &ContainerId, hook: &Hook, end: Instant) -> Result<(), String> {
    let variable = |v: &EnvVar| v.value.as_ref().map_or_else(|| v.name.clone(), |value| format!("{}={value}", v.name));
    let ask = ExecAsk {
        command: hook.command.clone(),
        environment: hook.environment.iter().map(variable).collect(),
        working_dir: hook.working_dir.clone(),
        user: hook.user.clone(),
        privileged: hook.privileged,
        streams: ExecStreams::Pipes { stdin: false },
    };
    let late = |_| "it was ended: its time was over".to_owned();
    let exec = timeout_at(end, containers.exec(id, ask)).await.map_err(late)?.map_err(|error| sentence(&error))?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = {
        let mut reading = pin!(async { tokio::join!(read(exec.stdout, &mut out), read(exec.stderr, &mut err)) });
        let mut ending = pin!(exec.ending.ended());
        let waiting = async {
            tokio::select! {
                end = &mut ending => {
                    let _rest = timeout(LINGER, &mut reading).await;
                    end
                }
                _ = &mut reading => (&mut ending).await,
            }
        };
        timeout_at(end, waiting).await
    };
    // Hangs it up where it goes on.
    drop(exec.control);
    let why = match ended {
        Err(_) => "it was ended: its time was over".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(end)) => match (end.code, end.signal) {
            (Some(0), _) => return Ok(()),
            // The end of the container is told by itself.
            _ if end.container_ended => return Ok(()),
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "nobody knows how it ended".to_owned(),
        },
    };
    let said = [out, err].concat();
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(TOLD)..]).trim().to_owned();
    Err(if said.is_empty() { why } else { format!("{why}: {said}") })
}

/// To the end; its last bytes are kept.
async fn read(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        let over = kept.len().saturating_sub(TOLD);
        kept.drain(..over);
    }
}
