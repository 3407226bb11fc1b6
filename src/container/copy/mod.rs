//! Files in and out of containers, running or not.
//!
//! The daemon does not enter containers: it starts a helper (`longshore runtime copy`) that does, and passes the bytes on. A helper
//! lives no longer than whoever waits for it, and is ended where nothing moves.
//!
//! ```text
//! place? ─▶ runs: its mounts │ runs not: its turn (nobody starts it meanwhile) ─▶ helper ─▶ Ready ─▶ the archive ─▶ Done
//! ```

pub mod link;

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{OwnedMutexGuard, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::link::CONTAINER;
use super::oci::INIT;
use super::process::Process;
use super::record::ContainerRecord;
use super::{Containers, blocking};
use crate::model::{ContainerId, ContainerSpec, ContainerState};
pub use link::{CopyDone, CopyWork};
use link::{CopyFailure, CopyOrder, CopyPlace, CopyReport};

/// Copies at the same time, of all containers together.
const PLACES: usize = 32;
static ROOM: Semaphore = Semaphore::const_new(PLACES);
/// A helper that moves nothing for so long is ended; clients wait a little longer.
const LIMIT: Duration = Duration::from_secs(45);
/// So long a container may be busy otherwise: starting, ending, being copied from.
const TURN: Duration = Duration::from_secs(15);
const PIECE: usize = 256 << 10;
/// For a helper whose streams are closed to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Why files were not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is none.
    #[error("no such container")]
    Unknown,
    /// Enough is under way.
    #[error("{PLACES} copies are under way, no more are at the same time; try again when one has ended")]
    TooMany,
    /// It is being started, ended or copied.
    #[error("the container is being started or ended, or somebody copies its files; try again in a moment")]
    Busy,
    /// Its processes run without anybody who looks after them.
    #[error("the container's shim is gone and what is left of it is being ended; copy when that is done")]
    Orphaned,
    /// There is nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be.
    #[error("{0}")]
    Refused(String),
    /// It went wrong there.
    #[error("{0}")]
    Failed(String),
    /// It ended in the middle.
    #[error("the container ended while files were copied; what was copied so far is not all")]
    Ended,
    /// The bytes that were to be copied did not come.
    #[error("the archive did not come whole")]
    Cut(#[source] io::Error),
    /// The helper.
    #[error("{step}")]
    Helper {
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

impl From<CopyFailure> for CopyError {
    fn from(failure: CopyFailure) -> Self {
        match failure {
            CopyFailure::NotFound(words) => Self::NotFound(words),
            CopyFailure::Refused(words) => Self::Refused(words),
            CopyFailure::Failed(words) => Self::Failed(words),
            CopyFailure::ContainerEnded => Self::Ended,
        }
    }
}

/// A helper at work. Dropped, it is ended.
struct Copying {
    out: Option<ChildStdout>,
    reports: BufReader<OwnedReadHalf>,
    /// The first process of a container that runs.
    init: Option<Process>,
    _helper: Helper,
}

/// What is given back once the helper has ended: the container's turn, and the place.
struct Held(Option<OwnedMutexGuard<()>>, SemaphorePermit<'static>);

/// The process.
struct Helper(Option<(Child, Held)>);

impl Drop for Helper {
    fn drop(&mut self) {
        let Some((mut child, held)) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Its streams are closed: it takes away what is half made, and ends.
                if timeout(GRACE, child.wait()).await.is_err() {
                    let _ = child.start_kill();
                }
                // Until then it has the container's root mounted: nobody else may.
                let _ = child.wait().await;
                let Held(turn, place) = held;
                drop((turn, place));
            });
        }
    }
}

impl Containers {
    /// Packs files of a container; what fails before the first byte is an error here.
    pub async fn read_files(
        &self,
        id: &ContainerId,
        work: CopyWork,
    ) -> Result<BoxStream<'static, Result<Vec<u8>, CopyError>>, CopyError> {
        let (mut copying, sending) = self.begin(id, work).await?;
        let out = copying.out.take();
        let out = out.ok_or_else(|| helper("the helper has no output")(io::ErrorKind::BrokenPipe.into()))?;
        // Nothing more is said to it; its end of the socket stays open as long as this does.
        Ok(stream::unfold(Some((copying, sending, out)), next).boxed())
    }

    /// Unpacks an archive in a container.
    pub async fn write_files(
        &self,
        id: &ContainerId,
        work: CopyWork,
        archive: impl Stream<Item = io::Result<impl AsRef<[u8]>>> + Send,
    ) -> Result<CopyDone, CopyError> {
        let (mut copying, mut sending) = self.begin(id, work).await?;
        let pass = async {
            let mut archive = std::pin::pin!(archive);
            while let Some(piece) = archive.next().await {
                let piece = piece.map_err(CopyError::Cut)?;
                match timeout(LIMIT, sending.write_all(piece.as_ref())).await {
                    Ok(Ok(())) => {}
                    // It has ended, and says why.
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => return Err(stuck()),
                }
            }
            // It knows the end of the archive by its end marker, or by this.
            let _ = sending.shutdown().await;
            Ok(())
        };
        let init = copying.init.take();
        let last = tokio::select! {
            biased;
            // Whatever it says is the end, also before all was sent.
            report = last(&mut copying.reports) => report?,
            passed = pass => {
                passed?;
                match timeout(LIMIT, last(&mut copying.reports)).await {
                    Ok(report) => report?,
                    Err(_) => return Err(stuck()),
                }
            }
            () = ended(init.as_ref()) => return Err(CopyError::Ended),
        };
        match last {
            CopyReport::Done(done) => Ok(done),
            CopyReport::Failed(failure) => Err(failure.into()),
            CopyReport::Ready => Err(helper("the helper says what makes no sense")(io::ErrorKind::InvalidData.into())),
        }
    }

    /// A helper that has found what it is to work on.
    async fn begin(&self, id: &ContainerId, work: CopyWork) -> Result<(Copying, OwnedWriteHalf), CopyError> {
        let room = ROOM.try_acquire().map_err(|_| CopyError::TooMany)?;
        let (place, init, turn) = self.place(id).await?;
        let (mut child, mut socket) = self.copier()?;
        let out = child.stdout.take();
        let helping = Helper(Some((child, Held(turn, room))));
        let order = CopyOrder { place, work };
        let json = serde_json::to_vec(&order).map_err(|e| helper("the helper was not told what to do")(e.into()))?;
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
        let tell = async {
            socket.write_all(&length.to_be_bytes()).await?;
            socket.write_all(&json).await
        };
        match timeout(LIMIT, tell).await {
            Ok(told) => told.map_err(helper("the helper that copies files ended without a word"))?,
            Err(_) => return Err(stuck()),
        }
        let (reading, sending) = socket.into_split();
        let reports = BufReader::new(reading);
        let mut copying = Copying { out, reports, init, _helper: helping };
        match timeout(LIMIT, last(&mut copying.reports)).await {
            Ok(report) => match report? {
                CopyReport::Ready => Ok((copying, sending)),
                CopyReport::Failed(failure) => Err(failure.into()),
                CopyReport::Done(_) => {
                    Err(helper("the helper says what makes no sense")(io::ErrorKind::InvalidData.into()))
                }
            },
            Err(_) => Err(stuck()),
        }
    }

    async fn place(
        &self,
        id: &ContainerId,
    ) -> Result<(CopyPlace, Option<Process>, Option<OwnedMutexGuard<()>>), CopyError> {
        if let Some(found) = self.running(id)? {
            return Ok((found.0, Some(found.1), None));
        }
        let busy = self.busy(id).ok_or(CopyError::Unknown)?;
        let turn = timeout(TURN, busy.lock_owned()).await.map_err(|_| CopyError::Busy)?;
        // It may have been started while its turn was waited for.
        if let Some(found) = self.running(id)? {
            return Ok((found.0, Some(found.1), None));
        }
        let (inner, of) = (Arc::clone(&self.0), id.clone());
        let record = blocking(move || inner.folders.read(&of, CONTAINER));
        let json = record.await.map_err(helper("the container's record cannot be read"))?.ok_or(CopyError::Unknown)?;
        let record = ContainerRecord::parse(&json).map_err(|e| CopyError::Failed(e.to_string()))?;
        let spec = self.known().get(id).map(|known| known.observed.spec.clone()).ok_or(CopyError::Unknown)?;
        let mounts = places_of_mounts(&spec, &record.image_defaults.volumes);
        Ok((
            CopyPlace::Stopped { layers: record.layers, folder: self.0.folders.container(id), mounts },
            None,
            Some(turn),
        ))
    }

    fn running(&self, id: &ContainerId) -> Result<Option<(CopyPlace, Process)>, CopyError> {
        match self.state(id) {
            None => Err(CopyError::Unknown),
            Some(ContainerState::Orphaned { .. }) => Err(CopyError::Orphaned),
            Some(ContainerState::Running { init, .. }) => {
                let held = Process::open(init).map_err(helper("the container's first process cannot be looked at"))?;
                let held = held.ok_or(CopyError::Ended)?;
                Ok(Some((CopyPlace::Running { init: init.into(), cgroup: self.0.cgroups.path(id) }, held)))
            }
            Some(ContainerState::Created | ContainerState::Exited { .. } | ContainerState::StartFailed { .. }) => {
                Ok(None)
            }
        }
    }

    /// With an empty environment: nothing of the daemon's is to reach a container.
    fn copier(&self) -> Result<(Child, UnixStream), CopyError> {
        let fail = helper("the helper that copies files was not started");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(&fail)?;
        ours.set_nonblocking(true).map_err(&fail)?;
        let mut command = Command::new(self.0.exe.path());
        command.arg0("longshore").args(["runtime", "copy"]).env_clear().current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let child = command.spawn().map_err(&fail)?;
        Ok((child, UnixStream::from_std(ours).map_err(&fail)?))
    }
}

/// Where something is mounted while a container runs, and is not there while it does not.
pub(super) fn places_of_mounts(spec: &ContainerSpec, volumes: &[String]) -> Vec<String> {
    let own = ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", INIT];
    let service = &spec.service;
    let (mounts, tmpfs) = (&service.mounts, &service.isolation.tmpfs);
    let given = mounts.iter().map(|mount| &mount.target).chain(tmpfs.iter().map(|tmpfs| &tmpfs.target));
    let devices = service.isolation.devices.iter().map(|device| &device.target);
    let given = given.chain(devices).chain(service.files.iter().map(|file| &file.target));
    own.into_iter().map(str::to_owned).chain(given.chain(volumes).cloned()).collect()
}

type At = (Copying, OwnedWriteHalf, ChildStdout);

/// The next piece of what is packed. An archive that is not whole ends in an error.
async fn next(at: Option<At>) -> Option<(Result<Vec<u8>, CopyError>, Option<At>)> {
    let (mut copying, sending, mut out) = at?;
    let mut piece = vec![0; PIECE];
    let read = tokio::select! {
        biased;
        read = timeout(LIMIT, out.read(&mut piece)) => read,
        () = ended(copying.init.as_ref()) => return Some((Err(CopyError::Ended), None)),
    };
    match read {
        Err(_) => Some((Err(stuck()), None)),
        Ok(Err(source)) => Some((Err(helper("the archive cannot be read from the helper")(source)), None)),
        Ok(Ok(0)) => match timeout(LIMIT, last(&mut copying.reports)).await {
            Ok(Ok(CopyReport::Done(_))) => None,
            Ok(Ok(CopyReport::Failed(failure))) => Some((Err(failure.into()), None)),
            Ok(Ok(CopyReport::Ready)) | Err(_) => Some((Err(stuck()), None)),
            Ok(Err(error)) => Some((Err(error), None)),
        },
        Ok(Ok(count)) => {
            piece.truncate(count);
            Some((Ok(piece), Some((copying, sending, out))))
        }
    }
}

/// The next report.
async fn last(reports: &mut BufReader<OwnedReadHalf>) -> Result<CopyReport, CopyError> {
    let fail = helper("the helper that copies files ended without a word");
    let mut line = Vec::new();
    reports.read_until(b'\n', &mut line).await.map_err(&fail)?;
    serde_json::from_slice(&line).map_err(|error| fail(error.into()))
}

/// When a container that runs has ended; never for one that does not.
async fn ended(init: Option<&Process>) {
    match init {
        Some(init) => init.ended().await,
        None => std::future::pending().await,
    }
}

fn helper(step: &'static str) -> impl Fn(io::Error) -> CopyError {
    move |source| CopyError::Helper { step, source }
}

fn stuck() -> CopyError {
    CopyError::Failed(format!(
        "nothing was copied for {} s: a file system of the container may hang; the copy was given up",
        LIMIT.as_secs()
    ))
}
