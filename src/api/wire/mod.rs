//! The API's own formats. They are promises: model and view can change without them, and they are turned into these and
//! nothing else. Readers ignore fields that they do not know, so that fields can be added.

mod by_hand;
mod container;
mod disk;
mod error;
mod event;
mod exec;
mod files;
pub mod frame;
mod health;
mod history;
mod image;
mod image_asks;
mod image_list;
mod image_steps;
mod job;
mod log;
mod network;
mod plan;
mod problem;
mod registry;
mod run;
mod secret;
mod stats;
mod status;
mod time;
mod volume;
mod why;

pub use by_hand::{ByHand, HandAsk, HandDone};
pub use container::{CheckRun, Container, ContainerHealth, ContainerState};
pub use disk::{DiskItem, DiskKind, DiskRow, DiskUse};
pub use error::{ErrorBody, ErrorFacts};
pub use event::Event;
pub use exec::{ExecAsk, ExecExit, ExecStarted, TerminalSize};
pub use files::{Copied, FileChange, FileChangeKind};
pub use health::{Confirmed, Health, Looked, Version};
pub use history::{Decided, GenerationDiff, History, ResumeAsk, RollbackAsk, ServiceGeneration, SetAside};
pub use image::{Image, ImageState};
pub use image_asks::{
    ArchiveForm, CommitAsk, ImportAsk, LoadAsk, PinAsk, PruneAsk, PullAsk, PushAsk, RemoveAsk, SaveAsk, TagAsk,
    VerifyAsk,
};
pub use image_list::{HistoryEntry, ImageDetails, ImageEntry, LayerEntry};
pub use image_steps::{
    FindingState, ImageFinding, ImagePart, ImageProgress, ImageStep, LayerState, LayerStep, Loaded, LoadedImage,
    Pinned, Pruned, PrunedImage, Pulled, Pushed, RemovedImage, Tagged, TransferWait, Verified,
};
pub use job::{Job, JobRun};
pub use log::LogRecord;
pub use network::{Member, Network, NetworkLink, PlannedPorts, PublishedPort};
pub use plan::{Counts, Plan, Step, Wait};
pub use problem::{Problem, Severity};
pub use registry::{LoggedIn, LoggedOut, LoginAsk, LogoutAsk};
pub use run::{RunAsk, RunEnded, RunState};
pub use secret::{SecretEntry, SecretList, SecretName};
pub use stats::{
    BlockUsage, ContainerUsage, CpuUsage, MemoryUsage, NetworkUsage, PidUsage, PressureUsage, Process, StallUsage,
    Usage,
};
pub use status::{Folder, Held, Loosening, Phase, Project, Service, Status, Store};
pub use time::{Time, TimeError, parse_since};
pub use volume::{
    ImportedVolume, PrunedVolume, PrunedVolumes, RemovedVolume, RestoreAsk, RestoredVolume, SnapshotAsk, VolumeAsk,
    VolumeEntry, VolumePruneAsk, VolumeSnapshot,
};
pub use why::{Cause, CrashLoop, Edit, Why};
