//! `cp`, `diff` and `export` on the command line, as Docker has them.

use std::path::PathBuf;

use clap::Args;

/// `longshore cp NAME:PATH LOCAL`, `longshore cp LOCAL NAME:PATH`
#[derive(Debug, Args)]
pub(in crate::cli) struct CpArgs {
    /// Keep owners, set-user-id bits and attributes
    #[arg(short, long)]
    pub(in crate::cli) archive: bool,
    /// Follow a link that the source is
    #[arg(short = 'L', long)]
    pub(in crate::cli) follow_link: bool,
    /// Say nothing where all is well
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Which replica of a service [default: the first that runs]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) index: Option<u32>,
    /// NAME:PATH of a container, a path here, or - for a tar from standard input
    #[arg(value_name = "FROM")]
    pub(in crate::cli) from: String,
    /// A path here, NAME:PATH of a container, or - for a tar to standard output
    #[arg(value_name = "TO")]
    pub(in crate::cli) to: String,
}

/// `longshore diff NAME`
#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// For programs
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Which replica of a service [default: the first that runs]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) index: Option<u32>,
    /// A container by name or id, or a service as project/service or by its unique name
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
}

/// `longshore export NAME`
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// A file, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// Which replica of a service [default: the first that runs]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) index: Option<u32>,
    /// A container by name or id, or a service as project/service or by its unique name
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
}
