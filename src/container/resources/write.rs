//! Limits, written to the cgroups of a container: all of what changed, or nothing of it.
//!
//! A value that the kernel refuses is an error, and what was written before it is taken back. The order is that of the knobs but
//! for memory on v1, where memory must never be above memory and swap together, not even between two writes.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Blocks, Knob, ResourceError, Settings, check, settings};
use crate::container::machine::{Controller, Feature, Machine, Version};
use crate::model::Resources;

/// A value for a file, and what takes it back.
struct Change {
    knob: Knob,
    path: PathBuf,
    new: String,
    old: String,
}

/// Gives the container's cgroup what is asked for, where that differs from what it was given before (`None`: nothing yet).
pub fn write(
    machine: &Machine,
    cgroup: &Path,
    before: Option<&Resources>,
    wanted: &Resources,
) -> Result<Undo, ResourceError> {
    check(wanted)?;
    let new = settings(wanted, machine, &Blocks::look(wanted)?);
    // A device that was limited and is gone now needs no limit taken from it.
    let old = before.map(|old| settings(old, machine, &Blocks::look(old).unwrap_or_default())).unwrap_or_default();
    prepare(machine, cgroup, wanted)?;
    let mut changes = changes(machine, cgroup, &old, &new);
    order(&mut changes);
    let mut undo = Undo(Vec::new());
    for change in changes {
        if let Err(error) = put(&change) {
            undo.back();
            return Err(error);
        }
        undo.0.push(change);
    }
    Ok(undo)
}

/// What was written.
pub struct Undo(Vec<Change>);

impl Undo {
    /// Takes it back, the last one first. What cannot be taken back stays: there is nobody left to be told.
    pub fn back(self) {
        for change in self.0.into_iter().rev() {
            let _ = put_text(&change.path, &change.knob.line(&change.old));
        }
    }
}

fn changes(machine: &Machine, cgroup: &Path, old: &Settings, new: &Settings) -> Vec<Change> {
    let differs = new.iter().filter(|(knob, value)| old.get(knob) != Some(value));
    let differs = differs.map(|(knob, value)| (knob, Some(value)));
    let gone = old.keys().filter(|knob| !new.contains_key(knob)).map(|knob| (knob, None));
    let place = |(knob, value): (&Knob, Option<&String>)| {
        let (_, folder) = machine.folder(knob.controller, cgroup)?;
        let path = folder.join(knob.file);
        let reset = || knob.reset.map_or_else(|| above(&folder, knob.file), str::to_owned);
        let new = value.cloned().unwrap_or_else(reset);
        let now = match knob.device {
            // One line for each device; by our own words.
            Some(_) => old.get(knob).cloned(),
            None => fs::read_to_string(&path).ok().map(|text| match knob.file {
                // Its first line is `oom_kill_disable N`.
                "memory.oom_control" => if text.contains("oom_kill_disable 1") { "1" } else { "0" }.to_owned(),
                "io.weight" | "io.bfq.weight" => text.lines().next().unwrap_or("").to_owned(),
                _ => text.trim().to_owned(),
            }),
        };
        let now = now.filter(|now| knob.file != "cpuset.cpus" || !now.is_empty());
        Some(Change { knob: knob.clone(), path, new, old: now.unwrap_or_else(reset) })
    };
    differs.chain(gone).filter_map(place).collect()
}

/// What the cgroup above has. On v2 `cpuset.cpus` is what was asked for there, and may be nothing; what is in force is beside it.
fn above(folder: &Path, file: &str) -> String {
    let read = |file: &str| folder.parent().and_then(|above| fs::read_to_string(above.join(file)).ok());
    let found = |file: &str| read(file).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    found(file).or_else(|| found(&format!("{file}.effective"))).unwrap_or_default()
}

/// Memory and swap together come before memory where they grow, after it where they shrink. A real-time period comes before its
/// runtime where it grows.
fn order(changes: &mut [Change]) {
    let limit = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= 0).unwrap_or(i64::MAX);
    let place = |changes: &[Change], file| changes.iter().position(|change| change.knob.file == file);
    let pairs = [
        ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", true),
        ("cpu.rt_period_us", "cpu.rt_runtime_us", false),
    ];
    for (first, second, grows_first) in pairs {
        let (Some(a), Some(b)) = (place(changes, first), place(changes, second)) else { continue };
        let grows = |at: usize| limit(&changes[at].new) >= limit(&changes[at].old);
        let swap = if grows_first { grows(b) } else { !grows(a) };
        if swap {
            changes.swap(a, b);
        }
    }
}

fn put(change: &Change) -> Result<(), ResourceError> {
    if change.knob.file == "memory.max" {
        return lower_softly(change);
    }
    put_text(&change.path, &change.knob.line(&change.new)).map_err(|source| refused(change, source))
}

fn refused(change: &Change, source: io::Error) -> ResourceError {
    let knob = &change.knob;
    match (knob.file, source.raw_os_error()) {
        ("memory.limit_in_bytes" | "memory.memsw.limit_in_bytes", Some(libc::EBUSY)) => {
            let used = change.path.with_file_name(knob.file.replace("limit", "usage"));
            in_use(change, &used)
        }
        ("cpu.rt_runtime_us", Some(libc::EINVAL)) => ResourceError::NoRealTime,
        _ => ResourceError::Refused { key: knob.key, file: change.path.clone(), value: knob.line(&change.new), source },
    }
}

fn in_use(change: &Change, used: &Path) -> ResourceError {
    let used = fs::read_to_string(used).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    ResourceError::InUse { limit: change.new.parse().unwrap_or(0), used }
}

/// On v2 a limit below what is in use is taken, and the kernel kills until it is kept. So what can be reclaimed is reclaimed by
/// way of `memory.high`, which kills nobody; and the limit is set only where that was enough.
fn lower_softly(change: &Change) -> Result<(), ResourceError> {
    let set = |value: &str| put_text(&change.path, value).map_err(|source| refused(change, source));
    let current = change.path.with_file_name("memory.current");
    let used = || fs::read_to_string(&current).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let fits = |limit: u64| used().is_none_or(|used| used <= limit);
    let Ok(limit) = change.new.parse::<u64>() else { return set(&change.new) };
    let high = change.path.with_file_name("memory.high");
    let before = fs::read_to_string(&high).map_or_else(|_| "max".to_owned(), |text| text.trim().to_owned());
    if fits(limit) {
        set(&change.new)?;
        // Left by one of us who was killed between the lines below; it would throttle the container for ever.
        let left = before.parse() == Ok(limit);
        return if left { put_text(&high, "max").map_err(|source| refused(change, source)) } else { Ok(()) };
    }
    let reclaimed = put_text(&high, &change.new);
    let outcome = if fits(limit) { set(&change.new) } else { Err(in_use(change, &current)) };
    if reclaimed.is_ok() {
        // No key sets it. What its owner set is kept where it can be told from what one of us left who was killed here.
        let own = before.parse::<u64>().is_ok_and(|before| before > limit);
        put_text(&high, if own { &before } else { "max" }).map_err(|source| refused(change, source))?;
    }
    outcome
}

fn put_text(path: &Path, text: &str) -> io::Result<()> {
    // An empty text would write nothing at all.
    let text = if text.is_empty() { "\n" } else { text };
    fs::File::options().write(true).open(path)?.write_all(text.as_bytes())
}

const RT_RUNTIME: &str = "cpu.rt_runtime_us";
/// The kernel counts what a cgroup had for a while after it was removed: so long its time is waited for.
const GIVEN_BACK: Duration = Duration::from_secs(1);

/// Before a start: what the cgroups above need, and the container's own real-time CPU time, so that the runtime finds it given.
pub fn prepare_start(machine: &Machine, cgroup: &Path, wanted: &Resources) -> Result<(), ResourceError> {
    /// What the kernel begins with, in microseconds.
    const PERIOD: u64 = 1_000_000;
    let steps = prepare(machine, cgroup, wanted)?;
    let Some((mount, runtime)) = steps.filter(|(_, runtime)| *runtime < PERIOD) else { return Ok(()) };
    let own = mount.join(cgroup.strip_prefix("/").unwrap_or(cgroup));
    give(&own, runtime)
}

/// Real-time CPU time on v1 comes from the cgroup above, down from the root: makes those above the container's, and gives them
/// what their children have and this one wants. Where there is such a thing: the hierarchy, and what is wanted.
fn prepare<'m>(
    machine: &'m Machine,
    cgroup: &Path,
    wanted: &Resources,
) -> Result<Option<(&'m Path, u64)>, ResourceError> {
    let (Some(runtime), true) = (wanted.realtime_runtime_us, machine.offers(Feature::RealTime)) else {
        return Ok(None);
    };
    let Some((Version::One, mount)) = machine.controller(Controller::Cpu) else { return Ok(None) };
    let read = |folder: &Path| -> u64 {
        fs::read_to_string(folder.join(RT_RUNTIME)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    let inside = |place: &Path| mount.join(place.strip_prefix("/").unwrap_or(place));
    let (mut below, mut needed, mut steps) = (inside(cgroup), runtime, Vec::new());
    let mut above: Vec<&Path> = cgroup.parent().into_iter().flat_map(Path::ancestors).collect();
    // The root has what the machine has.
    above.pop();
    for place in above {
        let folder = inside(place);
        let others = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        needed += others.filter(|path| path.is_dir() && *path != below).map(|path| read(&path)).sum::<u64>();
        steps.push((folder.clone(), needed));
        below = folder;
    }
    for (folder, needed) in steps.into_iter().rev() {
        if read(&folder) < needed || !folder.is_dir() {
            give(&folder, needed)?;
        }
    }
    Ok(Some((mount, runtime)))
}

fn give(folder: &Path, runtime: u64) -> Result<(), ResourceError> {
    let (file, value) = (folder.join(RT_RUNTIME), runtime.to_string());
    let given = fs::create_dir_all(folder).and_then(|()| put_when_free(&file, &value));
    given.map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) => ResourceError::NoRealTime,
        _ => ResourceError::Refused { key: "cpu_rt_runtime", file, value, source },
    })
}

fn put_when_free(file: &Path, value: &str) -> io::Result<()> {
    let until = Instant::now() + GIVEN_BACK;
    loop {
        match put_text(file, value) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_throttles_a_container_for_ever_after_a_kill_while_its_limit_was_lowered() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str| dir.path().join(name);
        let machine = crate::container::machine::tests::complete(Version::Two);
        let limited = Resources { memory: Some(50), ..Resources::default() };
        let knobs = settings(&limited, &machine, &Blocks::default());
        let knob = knobs.keys().find(|knob| knob.file == "memory.max").expect("a limit").clone();
        // What is in use, memory.high before; whether the limit is taken, memory.high after.
        let cases = [
            ("100", "max", false, "max"),
            ("100", "50", false, "max"),
            ("100", "80", false, "80"),
            ("10", "50", true, "max"),
            ("10", "80", true, "80"),
            ("10", "30", true, "30"),
            ("10", "max", true, "max"),
        ];
        for (used, before, taken, after) in cases {
            fs::write(file("memory.current"), used).expect("written");
            fs::write(file("memory.high"), before).expect("written");
            fs::write(file("memory.max"), "").expect("written");
            let path = file("memory.max");
            let change = Change { knob: knob.clone(), path, new: "50".into(), old: "max".into() };
            assert_eq!(put(&change).is_ok(), taken, "{used} {before}");
            let is = |name| fs::read_to_string(file(name)).expect("read");
            assert_eq!((is("memory.high").as_str(), is("memory.max") == "50"), (after, taken), "{used} {before}");
        }
    }
}
