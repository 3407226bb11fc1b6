//! All processes of a container held still for a moment.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Cgroups, PAUSE, collect_pids};
use crate::model::ContainerId;

impl Cgroups {
    /// Holds every process in it still; done when none of them moves.
    pub fn freeze(&self, id: &ContainerId, limit: Duration) -> io::Result<()> {
        let until = Instant::now() + limit;
        let mut held = false;
        for (hierarchy, folder) in self.folders(id) {
            let (file, word, look, seen) = if hierarchy.unified {
                ("cgroup.freeze", "1", "cgroup.events", "frozen 1")
            } else {
                ("freezer.state", "FROZEN", "freezer.state", "FROZEN")
            };
            if held || !folder.join(file).exists() || !has_processes(&folder) {
                continue;
            }
            fs::write(folder.join(file), word)?;
            while !fs::read_to_string(folder.join(look))?.lines().any(|line| line == seen) {
                if Instant::now() > until {
                    let why = "not all of its processes can be held still; one of them waits for a device";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                std::thread::sleep(PAUSE);
            }
            held = true;
        }
        if held { Ok(()) } else { Err(io::Error::other("this machine has no cgroup that holds processes still")) }
    }

    /// Whether its processes are held still, or are about to be.
    #[must_use]
    pub fn frozen(&self, id: &ContainerId) -> bool {
        self.folders(id).into_iter().any(|(hierarchy, folder)| {
            let file = if hierarchy.unified { "cgroup.freeze" } else { "freezer.state" };
            fs::read_to_string(folder.join(file)).is_ok_and(|text| matches!(text.trim(), "1" | "FROZEN" | "FREEZING"))
        })
    }

    /// Lets them go on. A container that is gone does not mind.
    pub fn thaw(&self, id: &ContainerId) {
        for (hierarchy, folder) in self.folders(id) {
            let (file, word) = if hierarchy.unified { ("cgroup.freeze", "0") } else { ("freezer.state", "THAWED") };
            if folder.join(file).exists() {
                // It went meanwhile.
                let _ = fs::write(folder.join(file), word);
            }
        }
    }
}

/// On hybrid machines a hierarchy may have the folder without anybody in it.
fn has_processes(folder: &Path) -> bool {
    let mut pids = BTreeSet::new();
    collect_pids(folder, &mut pids).is_ok() && !pids.is_empty()
}
