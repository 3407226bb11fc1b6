//! The command lines of `longshore volume …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum VolumeCommand {
    /// List volumes: how large, since when, who uses them
    Ls(LsArgs),
    /// Show all about volumes, as JSON
    Inspect(NamesArgs),
    /// Make a volume
    Create(CreateArgs),
    /// Remove volumes that no container uses and no state file names, with all that they hold
    Rm(NamesArgs),
    /// Remove volumes that no container uses and no state file names, after a question
    Prune(PruneArgs),
    /// Write what a volume holds as a tar
    Export(ExportArgs),
    /// Fill a volume from a tar
    Import(ImportArgs),
    /// Copy a volume, to be restored from
    Snapshot(SnapshotArgs),
    /// List snapshots
    Snapshots(SnapshotsArgs),
    /// Put a snapshot in the place of what its volume holds
    Restore(RestoreArgs),
    /// Remove snapshots of a volume
    RmSnapshot(RmSnapshotArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LsArgs {
    /// Only those that nothing uses and nothing names
    #[arg(long)]
    pub(super) unused: bool,
    /// Do not measure them: at once, however large they are
    #[arg(long)]
    pub(super) no_size: bool,
    /// Names only
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// For programs
    #[arg(long, conflicts_with = "quiet")]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NamesArgs {
    /// Names of volumes
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// An option of the driver `local`: type, o, device
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(super) opt: Vec<(String, String)>,
    /// A label
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = label)]
    pub(super) label: Vec<(String, String)>,
    /// Its name
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArgs {
    /// Also those with a name, not only those that nobody named
    #[arg(short, long)]
    pub(super) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Only say what would be removed
    #[arg(long, conflicts_with = "yes")]
    pub(super) dry_run: bool,
    /// For programs; needs --yes or --dry-run
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// Into this file; without it, to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// The volume
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// Give up what the volume holds
    #[arg(long)]
    pub(super) replace: bool,
    /// The volume: a new one, or one that is empty
    pub(super) name: String,
    /// A tar, plain or compressed by gzip or zstd, or a folder; `-` or nothing is standard input
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SnapshotArgs {
    /// Say nothing of how far it is, and print the snapshot's name only
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// The volume
    pub(super) volume: String,
    /// The snapshot's name; without it, the time
    #[arg(value_name = "NAME")]
    pub(super) name: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SnapshotsArgs {
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// Of this volume; without it, of all
    pub(super) volume: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RestoreArgs {
    /// Say nothing of how far it is
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// The volume; one that was removed is made again
    pub(super) volume: String,
    /// The snapshot
    pub(super) snapshot: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RmSnapshotArgs {
    /// The volume
    pub(super) volume: String,
    /// Names of snapshots
    #[arg(required = true, value_name = "SNAPSHOT")]
    pub(super) names: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// As Docker has it: a label without a value has an empty one.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err("write KEY or KEY=VALUE".to_owned()),
        (key, value) => Ok((key.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_labels() {
        assert_eq!(pair("o=addr=10.0.0.9,ro"), Ok(("o".into(), "addr=10.0.0.9,ro".into())));
        assert!(pair("o").is_err() && label("=x").is_err());
        assert_eq!(label("keep"), Ok(("keep".into(), String::new())));
    }
}
