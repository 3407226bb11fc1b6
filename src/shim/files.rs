//! Configs and secrets in a container that is being made: files of a tmpfs that nobody else sees.

use std::path::Path;

use zeroize::Zeroizing;

use super::mounts::For;
use super::{ShimError, doing};
use crate::container::cdi::Bind;
use crate::container::files::{self, Owned};
use crate::container::given_files;
use crate::container::link::Order;

/// What the files hold, in the order of their orders.
pub(super) type Contents = Vec<Zeroizing<Vec<u8>>>;

/// Takes what the daemon sends; standard input leads nowhere from then on.
pub(super) fn receive(order: &Order) -> Result<Contents, ShimError> {
    if order.files.is_empty() {
        return Ok(Contents::new());
    }
    let received = given_files::receive(&order.files, &mut std::io::stdin().lock());
    let contents = received.map_err(doing("receiving configs and secrets"))?;
    let null = std::fs::File::open("/dev/null").map_err(doing("opening /dev/null"))?;
    nix::unistd::dup2_stdin(&null).map_err(doing("closing standard input"))?;
    Ok(contents)
}

/// Writes them, and says where each is to be seen.
pub(super) fn prepare(order: &Order, contents: &Contents, of: &For<'_>) -> Result<Vec<Bind>, ShimError> {
    if order.files.is_empty() {
        return Ok(Vec::new());
    }
    let place = of.place.join("files");
    let owned = order.files.iter().map(|file| Owned::of(file, of.user, of.ids)).collect::<Result<Vec<_>, _>>();
    let owned = owned.map_err(ShimError::Runtime)?;
    files::write(&place, &owned, contents).map_err(doing("writing configs and secrets"))?;
    let bind = |(number, file): (usize, &given_files::FileOrder)| Bind {
        source: source(&place, number),
        target: file.target.clone(),
        // Read-only and closed they are already.
        options: vec!["bind".to_owned(), "rprivate".to_owned()],
    };
    Ok(order.files.iter().enumerate().map(bind).collect())
}

fn source(place: &Path, number: usize) -> String {
    place.join(number.to_string()).display().to_string()
}
