//! `longshore system df`

use std::time::Duration;

use clap::{Args, Subcommand};

use super::Exit;
use super::client::Client;
use super::failure::Failure;
use super::out::{Out, Paint, now};
use super::table::{Table, plain};
use super::words::{age, bytes, image};
use crate::api::wire::{DiskKind, DiskRow, DiskUse};
use crate::model::Timestamp;

/// Walking through what many containers wrote takes a while.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Subcommand)]
pub(super) enum SystemCommand {
    /// Show how much disk images, layers, containers, logs and volumes take, and how much could be free
    Df(DfArgs),
}

#[derive(Debug, Args)]
pub(super) struct DfArgs {
    /// Also each of them
    #[arg(short, long)]
    verbose: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(client: &Client, command: &SystemCommand, out: &mut Out) -> Result<Exit, Failure> {
    let SystemCommand::Df(args) = command;
    let query = if args.verbose { "?items=true" } else { "" };
    let disk: DiskUse = client.get_within(&format!("/api/v1/system/df{query}"), PATIENCE).await?;
    if args.json {
        out.json(&disk)?;
    } else {
        out.text(&render(&disk, args.verbose, now(), out.paint))?;
    }
    Ok(Exit::Fine)
}

fn render(disk: &DiskUse, verbose: bool, now: Timestamp, paint: Paint) -> String {
    let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    for row in &disk.rows {
        table.row([
            plain(name(row.kind)),
            plain(row.count.to_string()),
            plain(row.active.to_string()),
            plain(bytes(row.bytes)),
            plain(reclaimable(row)),
        ]);
    }
    let mut text = table.render(paint);
    for row in disk.rows.iter().filter(|row| verbose && !row.items.is_empty()) {
        text.push_str(&format!("\n{}\n", name(row.kind)));
        text.push_str(&items(row, now, paint));
    }
    text
}

fn items(row: &DiskRow, now: Timestamp, paint: Paint) -> String {
    let mut table = Table::new(&["NAME", "SIZE", "SHARED", "SINCE", "IN USE"]);
    for item in &row.items {
        let used = match item.used_by.join(", ") {
            by if !by.is_empty() => by,
            _ => if item.active { "yes" } else { "no" }.to_owned(),
        };
        let since = item.since.map_or_else(|| "-".to_owned(), |since| age(since, now));
        let (name, size, shared) = (plain(image(&item.name)), plain(bytes(item.bytes)), plain(bytes(item.shared)));
        table.row([name, size, shared, plain(since), plain(used)]);
    }
    table.render(paint)
}

fn name(kind: DiskKind) -> &'static str {
    match kind {
        DiskKind::Images => "Images",
        DiskKind::Layers => "Layers",
        DiskKind::Containers => "Containers",
        DiskKind::Logs => "Logs",
        DiskKind::Partial => "Partial downloads",
        DiskKind::Volumes => "Volumes",
        DiskKind::Snapshots => "Snapshots of volumes",
    }
}

fn reclaimable(row: &DiskRow) -> String {
    let percent = u128::from(row.reclaimable) * 100 / u128::from(row.bytes.max(1));
    format!("{} ({percent}%)", bytes(row.reclaimable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::DiskItem;

    #[test]
    fn a_row_for_each_kind_and_a_table_for_each() {
        let item = |name: &str, bytes, active| {
            let (name, since, used_by) = (name.into(), None, Vec::new());
            DiskItem { name, bytes, shared: 1024, active, since, used_by }
        };
        let row =
            |kind, count, bytes, reclaimable, items| DiskRow { kind, count, active: 1, bytes, reclaimable, items };
        let nginx =
            vec![item("docker.io/library/nginx:1.29", 190_000_000, true), item("ghcr.io/a/b:1", 5_000_000, false)];
        let used_by = vec!["shop-db-1".to_owned(), "shop-backup-1".to_owned()];
        let since = Some(Timestamp(0).into());
        let volumes = vec![DiskItem { since, used_by, shared: 0, ..item("shop_data", 4096, true) }];
        let disk = DiskUse {
            rows: vec![
                row(DiskKind::Images, 2, 195_000_000, 5_000_000, nginx),
                row(DiskKind::Volumes, 1, 4096, 0, volumes),
                row(DiskKind::Partial, 0, 0, 0, vec![]),
            ],
        };
        insta::assert_snapshot!(render(&disk, true, Timestamp(7_200_000), Paint { on: false }));
    }
}
