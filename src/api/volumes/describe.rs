//! The routes of volumes in the API's description.

use crate::api::openapi::{Answer, Ask, Operation, get, of, post};
use crate::api::wire::{
    ImageStep, ImportedVolume, PrunedVolumes, RemovedVolume, RestoreAsk, RestoredVolume, SnapshotAsk, VolumeAsk,
    VolumeEntry, VolumePruneAsk, VolumeSnapshot,
};

const SIZE: &[(&str, &str)] = &[("size", "true: also how large; reads through all folders")];
const LINES: &str = "application/x-ndjson";
const ARCHIVE: &str = "application/x-tar";
const ONE: &str = "/api/v1/volumes/{name}";

/// In the order of the router: each path once, its methods one after the other.
pub(in crate::api) fn operations() -> Vec<Operation> {
    let snapshots = "/api/v1/volumes/{name}/snapshots";
    vec![
        get("/api/v1/volumes", "All volumes", SIZE, Answer::Json(of::<Vec<VolumeEntry>>)),
        post(
            "/api/v1/volumes",
            "Makes a volume; 409 where it exists with other options",
            Ask::Json(of::<VolumeAsk>),
            Answer::Json(of::<VolumeEntry>),
        ),
        post(
            "/api/v1/volumes/prune",
            "Removes volumes that neither a container nor a state file names: those whose names are given (409 where one is \
             needed; none goes then), or all anonymous ones; else says which those are; 409 while a file cannot be read",
            Ask::Json(of::<VolumePruneAsk>),
            Answer::Json(of::<PrunedVolumes>),
        ),
        get(ONE, "All about one volume", SIZE, Answer::Json(of::<VolumeEntry>)),
        Operation {
            method: "delete",
            ..get(
                ONE,
                "Removes a volume and all that it holds, but not its copies; 409 where a container uses it or a state file names it",
                &[],
                Answer::Json(of::<RemovedVolume>),
            )
        },
        get(
            "/api/v1/volumes/{name}/export",
            "What it holds, as a tar, with owners, modes, attributes and hard links",
            &[],
            Answer::Text(ARCHIVE),
        ),
        Operation {
            method: "put",
            query: &[("replace", "true: what it holds is given up for it")],
            ..post(
                "/api/v1/volumes/{name}/import",
                "Fills an empty volume from a tar, of any size, plain or compressed by gzip or zstd; one that is missing is made; \
                 all of it or nothing; 409 while a container that uses it runs",
                Ask::Bytes(ARCHIVE),
                Answer::Lines(LINES, of::<ImageStep<ImportedVolume>>),
            )
        },
        get(snapshots, "Its copies", &[], Answer::Json(of::<Vec<VolumeSnapshot>>)),
        post(
            snapshots,
            "Copies it; goes on when the client goes away",
            Ask::Json(of::<SnapshotAsk>),
            Answer::Lines(LINES, of::<ImageStep<VolumeSnapshot>>),
        ),
        Operation {
            method: "delete",
            ..get(
                "/api/v1/volumes/{name}/snapshots/{snapshot}",
                "Removes a copy",
                &[],
                Answer::Json(of::<VolumeSnapshot>),
            )
        },
        post(
            "/api/v1/volumes/{name}/restore",
            "Puts a copy in the place of what it holds; 409 while a container that uses it runs; goes on when the client goes \
             away",
            Ask::Json(of::<RestoreAsk>),
            Answer::Lines(LINES, of::<ImageStep<RestoredVolume>>),
        ),
        get("/api/v1/snapshots", "The copies of all volumes", &[], Answer::Json(of::<Vec<VolumeSnapshot>>)),
    ]
}
