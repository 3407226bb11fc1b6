//! Configs and secrets of a container that runs, given other contents: by a helper (`longshore runtime files`), because the daemon enters no
//! containers.

pub mod link;

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::Inner;
use super::given_files::Payload;
use crate::model::{ContainerId, MountedFile, ProcessId};
use link::{SwapOrder, SwapReport};

/// Some files are quickly written.
const LIMIT: Duration = Duration::from_secs(30);
const LONGEST_REPORT: u64 = 64 * 1024;

/// Why files were not swapped.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// As the helper says.
    #[error("{0}")]
    Failed(String),
    /// It is over.
    #[error("the container ended while its files were swapped")]
    ContainerEnded,
    /// The helper itself.
    #[error("the helper that swaps files {what}")]
    Helper {
        /// What is wrong with it.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Gives a container that runs these contents. Who opens one of the files from then on reads the new one.
pub(super) async fn swap(
    inner: &Inner,
    id: &ContainerId,
    init: ProcessId,
    files: &[MountedFile],
) -> Result<(), SwapError> {
    let helper = |what| move |source| SwapError::Helper { what, source };
    let Some((orders, payload)) = Payload::of(files) else {
        return Err(SwapError::Failed("what the files hold is not known".to_owned()));
    };
    let order = SwapOrder {
        init: init.into(),
        cgroup: inner.cgroups.path(id),
        place: inner.folders.run(id).join("swap"),
        files: orders,
    };
    let json = serde_json::to_vec(&order).map_err(|error| helper("was not told what to do")(error.into()))?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(helper("was not started"))?;
    ours.set_nonblocking(true).map_err(helper("was not started"))?;
    let mut command = Command::new(inner.exe.path());
    command.arg0("longshore").args(["runtime", "files"]).env_clear().current_dir("/");
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = command.spawn().map_err(helper("was not started"))?;
    // The other end is the child's alone.
    drop(command);
    let mut socket = UnixStream::from_std(ours).map_err(helper("was not started"))?;
    let talk = async {
        socket.write_all(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes()).await?;
        socket.write_all(&json).await?;
        payload.send(&mut socket).await?;
        let mut said = Vec::new();
        (&mut socket).take(LONGEST_REPORT).read_to_end(&mut said).await?;
        Ok::<_, io::Error>(said)
    };
    let said = match tokio::time::timeout(LIMIT, talk).await {
        Ok(said) => said.map_err(helper("ended without a word"))?,
        Err(_) => return Err(helper("does not answer")(io::ErrorKind::TimedOut.into())),
    };
    let reaped = tokio::time::timeout(LIMIT, child.wait()).await;
    if !matches!(reaped, Ok(Ok(_))) {
        return Err(helper("does not end")(io::ErrorKind::TimedOut.into()));
    }
    match serde_json::from_slice(&said).map_err(|error| helper("ended without a word")(error.into()))? {
        SwapReport::Done => Ok(()),
        SwapReport::Failed(words) => Err(SwapError::Failed(words)),
        SwapReport::ContainerEnded => Err(SwapError::ContainerEnded),
    }
}
