//! Configs and secrets on their way to whoever puts them into a container: what they are in its order, what they hold on its standard
//! input, so that it is in no argument.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use crate::model::{Content, MountedFile};

/// One file in an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOrder {
    /// `the config "web"`, for errors.
    pub title: String,
    /// Where in the container.
    pub target: String,
    /// Whose it is there; none: the user's whose command runs.
    pub uid: Option<u32>,
    /// Its group, likewise.
    pub gid: Option<u32>,
    /// Its permissions.
    pub mode: u32,
    /// So many bytes.
    pub length: usize,
}

/// No file is larger.
const LONGEST: usize = 1 << 20;

/// What files hold, in the order of their orders.
pub(super) struct Payload(Vec<Content>);

impl Payload {
    /// Parts what is told from what is sent. None: what one of them holds is not known.
    pub(super) fn of(files: &[MountedFile]) -> Option<(Vec<FileOrder>, Self)> {
        let contents = files.iter().map(|file| file.content.clone()).collect::<Option<Vec<_>>>()?;
        let order = |(file, content): (&MountedFile, &Content)| FileOrder {
            title: file.title(),
            target: file.target.clone(),
            uid: file.uid,
            gid: file.gid,
            mode: file.mode,
            length: content.expose().len(),
        };
        Some((files.iter().zip(&contents).map(order).collect(), Self(contents)))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends it. Who reads no more has ended, and says why elsewhere.
    pub(super) async fn send(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        for content in &self.0 {
            to.write_all(content.expose()).await?;
        }
        to.flush().await
    }
}

/// What each of the files holds.
pub fn receive(orders: &[FileOrder], from: &mut impl Read) -> io::Result<Vec<Zeroizing<Vec<u8>>>> {
    let one = |order: &FileOrder| {
        if order.length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut content = Zeroizing::new(vec![0; order.length]);
        from.read_exact(&mut content).map(|()| content)
    };
    orders.iter().map(one).collect()
}
