//! `longshore status`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::args::StatusArgs;
use super::client::Client;
use super::failure::Failure;
use super::out::{Ink, Out, Paint, now};
use super::plan::waits_table;
use super::progress::Progress;
use super::table::{Table, plain};
use super::words::{age, bytes, image, printable, until};
use super::{Exit, network, ports, problems};
use crate::api::wire::{
    Container, Image, ImageState, Looked, Loosening, Network, Phase, Problem, Project, PublishedPort, Service, Status,
};
use crate::model::Timestamp;

pub(super) async fn run(client: &Client, args: &StatusArgs, out: &mut Out) -> Result<Exit, Failure> {
    let status =
        if args.wait { settle(client, args.timeout, out).await? } else { client.get("/api/v1/status").await? };
    if args.json {
        out.json(&status)?;
    } else {
        out.text(&render(&status, out.paint, now()))?;
    }
    Ok(if args.wait { verdict(&status, args.timeout, out) } else { Exit::Fine })
}

/// Asks until nothing is left to do or the time is over; shows pulls to whoever watches.
async fn settle(client: &Client, limit: Duration, out: &mut Out) -> Result<Status, Failure> {
    let end = Instant::now() + limit;
    let mut progress = Progress::new(out.watched);
    // What was put into the folder a moment ago may not have been noticed yet.
    let _: Looked = client.post("/api/v1/look").await?;
    let mut status: Status = client.get("/api/v1/status").await?;
    while !(status.ready && status.settled) && Instant::now() < end {
        progress.draw(&status)?;
        // Short enough that the end is met to the second.
        let left = end.saturating_duration_since(Instant::now()).as_secs().clamp(1, 5);
        let path = format!("/api/v1/status?wait={}&timeout={left}", status.revision);
        status = client.get_within(&path, Duration::from_secs(left)).await?;
    }
    progress.clear()?;
    Ok(status)
}

fn verdict(status: &Status, limit: Duration, out: &mut Out) -> Exit {
    if !(status.ready && status.settled) {
        out.complain(&format!("not everything is done after {} s", limit.as_secs()));
        return Exit::Error;
    }
    let well = |p: &Project| p.phase == Phase::Applied && !p.last_good;
    let all_well = status.projects.iter().all(well) && status.folder.held.is_none();
    if all_well && !problems::stop_something(&status.problems) { Exit::Fine } else { Exit::Error }
}

fn render(status: &Status, paint: Paint, now: Timestamp) -> String {
    let sections = [
        head(status, paint, now),
        services(status, paint),
        images(&status.images, paint, now),
        networks(&status.networks, paint),
        open_ports(status, paint),
        waits(status, paint, now),
        problems::render(&all_problems(status), paint),
        loosenings(status, paint),
        status.notes.iter().map(|note| format!("note: {}\n", printable(note))).collect(),
    ];
    sections.into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("\n")
}

fn head(status: &Status, paint: Paint, now: Timestamp) -> String {
    let folder = &status.folder;
    let mut text = format!("{} ({})\n", printable(&folder.path), printable(&folder.watching));
    if let Some(held) = &folder.held {
        let confirm = if held.confirmable { "\n  `longshore confirm` lets it go on" } else { "" };
        let word = paint.ink(Ink::Bad, "held");
        text.push_str(&format!("{word} for {}: {}{confirm}\n", age(held.since, now), printable(&held.reason)));
    }
    if let Some(note) = &status.store.note {
        text.push_str(&format!("database: {}\n", printable(note)));
    }
    text.push_str(&match (status.ready, status.settled) {
        (false, _) => paint.ink(Ink::Busy, "starting: the first look is not done yet"),
        (true, true) => paint.ink(Ink::Good, "settled: nothing left to do"),
        (true, false) => {
            let words = format!("working: {} under way, {} waiting", status.under_way.len(), status.waiting.len());
            paint.ink(Ink::Busy, &words)
        }
    });
    text.push('\n');
    text
}

fn services(status: &Status, paint: Paint) -> String {
    let mut table = Table::new(&["PROJECT", "SERVICE", "PHASE", "RUNNING", "IMAGE", "REMARK"]);
    for project in &status.projects {
        if project.services.is_empty() {
            let none = || plain("");
            table.row([plain(&project.name), none(), phase(project.phase), none(), none(), plain(remark_of(project))]);
        }
        for service in &project.services {
            table.row([
                plain(&project.name),
                plain(&service.name),
                phase(service.phase),
                plain(format!("{}/{}", service.running, service.wanted)),
                plain(service.image.as_deref().map_or("-", image)),
                plain(remark(project, service)),
            ]);
        }
    }
    if table.is_empty() { "no projects\n".to_owned() } else { table.render(paint) }
}

fn phase(phase: Phase) -> (String, Ink) {
    let ink = match phase {
        Phase::Applied => Ink::Good,
        Phase::Applying | Phase::Removing => Ink::Busy,
        Phase::Failing | Phase::Held => Ink::Bad,
    };
    (phase.as_str().to_owned(), ink)
}

/// The first thing that keeps a service from being as it should.
fn remark(project: &Project, service: &Service) -> String {
    let hold = service.holds.first().map(|p| p.message.clone());
    let wait = || service.waiting.first().map(|w| w.reason.clone());
    let attempt = || service.containers.iter().find(|c| c.next_attempt.is_some()).map(|c| c.reason.clone());
    let scaled = || service.by_hand.as_ref()?.file_replicas.map(|file| format!("scaled by hand; its file says {file}"));
    let aside = service.set_aside.as_ref().map(|aside| aside.message.clone());
    let newer = || service.update.clone();
    let own = hold.or(aside).or_else(wait).or_else(attempt).or_else(scaled).or_else(newer);
    own.unwrap_or_else(|| remark_of(project).to_owned())
}

fn remark_of(project: &Project) -> &'static str {
    if project.last_good { "an older version of the file is in force" } else { "" }
}

/// Only those that are not simply here.
fn images(images: &[Image], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(&["IMAGE", "STATE", "NEXT ATTEMPT"]);
    for each in images {
        match &each.state {
            ImageState::Present { .. } => {}
            ImageState::Pulling { done, total, .. } => {
                let of = total.map_or_else(String::new, |t| format!(" of {}", bytes(t)));
                let words = format!("pulling: {}{of}", bytes(*done));
                table.row([plain(image(&each.image)), (words, Ink::Busy), plain("")]);
            }
            ImageState::Failed { error, attempts, next_attempt } => {
                let next = next_attempt.map_or_else(String::new, |t| until(t, now));
                let words = format!("failed {attempts}x: {error}");
                table.row([plain(image(&each.image)), (words, Ink::Bad), plain(next)]);
            }
        }
    }
    if table.is_empty() { String::new() } else { table.render(paint) }
}

/// Only those that are not up.
fn networks(networks: &[Network], paint: Paint) -> String {
    let mut table = Table::new(&["NETWORK", "DRIVER", "STATE"]);
    for network in networks.iter().filter(|network| network.broken.is_some()) {
        table.row([plain(&network.name), plain(&network.driver), network::state(network)]);
    }
    if table.is_empty() { String::new() } else { table.render(paint) }
}

/// What is published, and who reaches it.
fn open_ports(status: &Status, paint: Paint) -> String {
    let mut table = Table::new(&["PORTS", "OF", "REACHED"]);
    let services = status.projects.iter().flat_map(|project| &project.services);
    for container in services.flat_map(|service| &service.containers) {
        let mut by_reach: BTreeMap<(bool, &str), Vec<PublishedPort>> = BTreeMap::new();
        for port in &container.ports {
            by_reach.entry((!port.outside, &port.reach)).or_default().push(port.clone());
        }
        for ((inside, reach), ports) in by_reach {
            let written = ports::of_container(&Container { ports, ..container.clone() });
            let ink = if inside { Ink::Plain } else { Ink::Strong };
            table.row([plain(written), plain(&container.name), (reach.to_owned(), ink)]);
        }
    }
    if table.is_empty() { String::new() } else { table.render(paint) }
}

fn waits(status: &Status, paint: Paint, now: Timestamp) -> String {
    let table = waits_table(&status.waiting, now);
    if table.is_empty() { String::new() } else { table.render(paint) }
}

/// The problems of the files and the holds of the services, each once.
fn all_problems(status: &Status) -> Vec<Problem> {
    let mut all = status.problems.clone();
    for hold in status.projects.iter().flat_map(|p| p.services.iter().flat_map(|s| &s.holds)) {
        if !all.contains(hold) {
            all.push(hold.clone());
        }
    }
    all
}

/// Of the daemon, then of each service with its place.
fn loosenings(status: &Status, paint: Paint) -> String {
    let whole = status.loosenings.iter().map(|l| loosened(&printable(l), paint));
    let services =
        status.projects.iter().flat_map(|p| p.services.iter().map(move |s| (format!("{}/{}", p.name, s.name), s)));
    let each = services.flat_map(|(name, service)| {
        service.loosenings.iter().map(move |l| loosening(&name, l, paint)).collect::<Vec<_>>()
    });
    whole.chain(each).collect()
}

fn loosened(what: &str, paint: Paint) -> String {
    format!("{}: {what}\n", paint.ink(Ink::Busy, "loosened"))
}

/// What a file asks for, with its place.
pub(super) fn loosening(service: &str, loosening: &Loosening, paint: Paint) -> String {
    let Loosening { what, location, key: _ } = loosening;
    loosened(&format!("{}: {}: {}", printable(location), printable(service), printable(what)), paint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::out::Paint;

    const NOW: Timestamp = Timestamp(1_800_000_100_000);

    fn status() -> Status {
        let json = include_str!("../../tests/snapshots/status.json");
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_busy_machine_in_words() {
        insta::assert_snapshot!(render(&status(), Paint { on: false }, NOW), @r#"
        /etc/longshore/state (events and a look every 30 s)
        held for 100s: 4 of 5 projects vanished at once
          `longshore confirm` lets it go on
        working: 1 under way, 1 waiting

        PROJECT  SERVICE  PHASE    RUNNING  IMAGE                     REMARK
        blog     web      failing  0/1      nginx:1.29                its image
        shop     cache    applied  2/2      redis:8
        shop     db       held     0/1      ghcr.io/shop/postgres:17  volumes are not supported yet

        IMAGE                      STATE                                    NEXT ATTEMPT
        nginx:1.29                 pulling: 5.0 MiB of 70.0 MiB
        registry.example/x:latest  failed 3x: the registry does not answer  in 20s

        NETWORK       DRIVER  STATE
        shop_default  bridge  its bridge ls-0123456789 is gone

        PORTS                     OF            REACHED
        0.0.0.0:6379->6379/tcp    shop-cache-1  from other machines
        127.0.0.1:6380->6380/tcp  shop-cache-1  from this machine only

        WAITING          FOR        SINCE  NEXT LOOK
        slot blog/web/1  its image  40s

        error: /etc/longshore/state/blog.yaml:3:5: unknown key "imagee"
          hint: did you mean "image"?
        held: /etc/longshore/state/shop/compose.yaml:9:5: volumes are not supported yet
          9 |     volumes: [data:/var/lib/postgresql]
            |     ^^^^^^^

        loosened: no seccomp: the configuration turns it off
        loosened: /etc/longshore/state/shop/compose.yaml:4:15: shop/cache: it has the capability CAP_NET_ADMIN

        note: another firewall drops what is forwarded (table ip filter, chain FORWARD): published ports are not reached from outside
        "#);
    }

    #[test]
    fn a_quiet_machine_says_little() {
        let mut quiet = status();
        quiet.settled = true;
        quiet.folder.held = None;
        quiet.projects.clear();
        quiet.images.clear();
        quiet.waiting.clear();
        quiet.problems.clear();
        quiet.loosenings.clear();
        quiet.notes.clear();
        quiet.networks[0].broken = None;
        insta::assert_snapshot!(render(&quiet, Paint { on: false }, NOW), @r"
        /etc/longshore/state (events and a look every 30 s)
        settled: nothing left to do

        no projects
        ");
    }
}
