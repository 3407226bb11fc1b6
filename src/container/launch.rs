//! One start: clear what is left, start a shim, read its report.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use super::link::{Order, Report, StartRecord};
use super::{Inner, KILL_LIMIT, Runtime, StartError, blocking};
use crate::model::{ContainerId, ContainerState};

/// A shim that says nothing for so long is ended.
const LIMIT: Duration = Duration::from_secs(30);
/// No report is longer.
const REPORT: u64 = 64 * 1024;

/// Starts it, and gives the state it is in then. Whatever fails leaves nothing behind.
pub(super) async fn launch(inner: &Arc<Inner>, id: &ContainerId) -> Result<ContainerState, StartError> {
    let io = |step| move |source| StartError::Io { step, source };
    clear(inner, id).await?;
    let (preparing, prepared) = (Arc::clone(inner), id.clone());
    let prepare = blocking(move || preparing.folders.prepare_start(&prepared));
    prepare.await.map_err(io("the container's run folder was not made"))?;
    let started = match report(inner, id).await {
        Ok(started) => started,
        Err(error) => {
            // The shim took its processes with it; a cgroup may be left, or everything where it was killed.
            clear(inner, id).await?;
            return Err(error);
        }
    };
    let (syncing, synced) = (Arc::clone(inner), id.clone());
    let sync = blocking(move || syncing.folders.sync_start(&synced));
    if let Err(source) = sync.await {
        // Nobody may rely on a start that may not last; so it does not run either.
        clear(inner, id).await?;
        return Err(StartError::Io { step: "the start was not recorded", source });
    }
    Ok(ContainerState::Running { init: started.init.into(), shim: started.shim.into(), since: started.started() })
}

/// The error with its causes, for the state.
pub(super) fn text(error: &StartError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

async fn clear(inner: &Arc<Inner>, id: &ContainerId) -> Result<(), StartError> {
    let (inner, id) = (Arc::clone(inner), id.clone());
    let cleared = tokio::task::spawn_blocking(move || {
        inner.cgroups.kill(&id, KILL_LIMIT)?;
        let step = "the cgroup of the last run was not removed";
        inner.cgroups.remove(&id).map_err(|source| StartError::Io { step, source })
    });
    cleared.await.map_err(|e| StartError::Failed(e.to_string()))?
}

async fn report(inner: &Inner, id: &ContainerId) -> Result<StartRecord, StartError> {
    let mut shim = spawn(inner, id).map_err(|source| StartError::Io { step: "the shim was not started", source })?;
    let mut said = Vec::new();
    if let Some(stdout) = shim.stdout.take() {
        // To the end of the pipe: the shim has become the follower by then, or has ended.
        let read = tokio::time::timeout(LIMIT, stdout.take(REPORT).read_to_end(&mut said)).await;
        if !matches!(read, Ok(Ok(_))) {
            let _ = shim.kill().await;
            return Err(StartError::TimedOut(LIMIT.as_secs()));
        }
    }
    let last = said.split(|b| *b == b'\n').rev().find_map(|line| serde_json::from_slice(line).ok());
    match last {
        Some(Report::Started(record)) => Ok(record),
        Some(Report::Failed(error)) => {
            ended(&mut shim).await;
            Err(StartError::Failed(error))
        }
        None => {
            let status = ended(&mut shim).await;
            let stderr = inner.folders.run(id).join("shim.err");
            let words = std::fs::read(stderr).unwrap_or_default();
            let words = String::from_utf8_lossy(&words[..words.len().min(4096)]).trim().to_owned();
            Err(StartError::Failed(format!("the shim ended without a report ({status}) {words}")))
        }
    }
}

async fn ended(shim: &mut Child) -> String {
    match tokio::time::timeout(LIMIT, shim.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => {
            let _ = shim.kill().await;
            "it did not end".to_owned()
        }
    }
}

/// With an empty environment: nothing of the daemon's is to reach a container, and a backtrace would only cost time.
fn spawn(inner: &Inner, id: &ContainerId) -> io::Result<Child> {
    let settings = &inner.settings;
    let order = Order {
        folder: inner.folders.container(id),
        device_guard: matches!(settings.runtime, Runtime::External(_)) || inner.cgroups.guard_devices(),
        run: inner.folders.run(id),
        cgroup: inner.cgroups.path(id),
        machine: inner.sight.machine.clone(),
        oom_counter: inner.cgroups.oom_counter(id),
        runtime: match &settings.runtime {
            Runtime::Embedded => None,
            Runtime::External(program) => Some(program.clone()),
        },
        init: inner.follower.clone(),
        log_bytes: settings.log_bytes,
        log_files: settings.log_files,
        boot_id: settings.boot_id.0.clone(),
    };
    let stderr = std::fs::File::create(order.run.join("shim.err"))?;
    let mut command = Command::new(inner.exe.path());
    command.arg0("longshore").arg("shim").arg(serde_json::to_string(&order)?);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(false);
    command.spawn()
}
