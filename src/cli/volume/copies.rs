//! `longshore volume snapshot`, `snapshots`, `restore` and `rm-snapshot`

use super::args::{RestoreArgs, RmSnapshotArgs, SnapshotArgs, SnapshotsArgs};
use super::{PATIENCE, path};
use crate::api::wire::{RestoreAsk, RestoredVolume, SnapshotAsk, VolumeSnapshot};
use crate::cli::Exit;
use crate::cli::client::{Client, percent};
use crate::cli::failure::Failure;
use crate::cli::image::Failures;
use crate::cli::image::bars::{Display, Way};
use crate::cli::image::lines::follow;
use crate::cli::out::{Out, Paint, now};
use crate::cli::table::{Table, plain};
use crate::cli::words::{age, bytes, printable};
use crate::model::Timestamp;

pub(super) async fn make(client: &Client, args: &SnapshotArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = SnapshotAsk { name: args.name.clone() };
    let lines = client.tell_lines(&format!("{}/snapshots", path(&args.volume)), &ask).await?;
    let made: VolumeSnapshot = follow(lines, Display::new(Way::Load, args.quiet, out.watched)).await?;
    let name = printable(&made.name);
    let line = if args.quiet { name } else { format!("{} {name}, {}", printable(&made.volume), bytes(made.bytes)) };
    out.text(&format!("{line}\n"))?;
    Ok(Exit::Fine)
}

pub(super) async fn list(client: &Client, args: &SnapshotsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let all: Vec<VolumeSnapshot> = match &args.volume {
        Some(volume) => client.get(&format!("{}/snapshots", path(volume))).await?,
        None => client.get("/api/v1/snapshots").await?,
    };
    if args.json {
        out.json(&all)?;
    } else {
        out.text(&render(&all, now(), out.paint))?;
    }
    Ok(Exit::Fine)
}

pub(super) async fn restore(client: &Client, args: &RestoreArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = RestoreAsk { snapshot: args.snapshot.clone() };
    let lines = client.tell_lines(&format!("{}/restore", path(&args.volume)), &ask).await?;
    let done: RestoredVolume = follow(lines, Display::new(Way::Load, args.quiet, out.watched)).await?;
    out.text(&format!("{} holds what {} holds\n", printable(&done.volume), printable(&done.snapshot)))?;
    Ok(Exit::Fine)
}

pub(super) async fn remove(client: &Client, args: &RmSnapshotArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut failed = Failures::default();
    for name in &args.names {
        let removed = client.delete(&format!("{}/snapshots/{}", path(&args.volume), percent(name)), PATIENCE).await;
        if let Some(VolumeSnapshot { volume, name, .. }) = failed.note(removed, out)? {
            out.text(&format!("removed {} {}\n", printable(&volume), printable(&name)))?;
        }
    }
    Ok(failed.exit())
}

fn render(all: &[VolumeSnapshot], now: Timestamp, paint: Paint) -> String {
    let mut table = Table::new(&["VOLUME", "SNAPSHOT", "SIZE", "CREATED"]);
    for copy in all {
        table.row([plain(&copy.volume), plain(&copy.name), plain(bytes(copy.bytes)), plain(age(copy.created, now))]);
    }
    table.render(paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_snapshot() {
        let created = Timestamp(0).into();
        let copy = VolumeSnapshot { volume: "shop_data".into(), name: "before".into(), created, bytes: 4096 };
        insta::assert_snapshot!(render(&[copy], Timestamp(7_200_000), Paint { on: false }), @r"
        VOLUME     SNAPSHOT  SIZE     CREATED
        shop_data  before    4.0 KiB  2h
        ");
    }
}
