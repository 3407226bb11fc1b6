//! `longshore system df`

use std::time::Duration;

use clap::{Args, Subcommand};

use super::Exit;
use super::client::Client;
use super::failure::Failure;
use super::out::{Out, Paint};
use super::table::{Table, plain};
use super::words::{bytes, image};
use crate::api::wire::{DiskKind, DiskRow, DiskUse};

/// Walking through what many containers wrote takes a while.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Subcommand)]
pub(super) enum SystemCommand {
    /// Show how much disk images, layers, containers and logs take, and how much could be free
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
        out.text(&render(&disk, args.verbose, out.paint))?;
    }
    Ok(Exit::Fine)
}

fn render(disk: &DiskUse, verbose: bool, paint: Paint) -> String {
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
        text.push_str(&items(row, paint));
    }
    text
}

fn items(row: &DiskRow, paint: Paint) -> String {
    let mut table = Table::new(&["NAME", "SIZE", "SHARED", "IN USE"]);
    for item in &row.items {
        let used = if item.active { "yes" } else { "no" };
        table.row([plain(image(&item.name)), plain(bytes(item.bytes)), plain(bytes(item.shared)), plain(used)]);
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
        let item = |name: &str, bytes, active| DiskItem { name: name.into(), bytes, shared: 1024, active };
        let row =
            |kind, count, bytes, reclaimable, items| DiskRow { kind, count, active: 1, bytes, reclaimable, items };
        let nginx =
            vec![item("docker.io/library/nginx:1.29", 190_000_000, true), item("ghcr.io/a/b:1", 5_000_000, false)];
        let disk = DiskUse {
            rows: vec![
                row(DiskKind::Images, 2, 195_000_000, 5_000_000, nginx),
                row(DiskKind::Partial, 0, 0, 0, vec![]),
            ],
        };
        insta::assert_snapshot!(render(&disk, true, Paint { on: false }));
    }
}
