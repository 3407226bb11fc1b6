//! The routes of images in the API's description.

use crate::api::openapi::{Answer, Ask, Operation, get, of, post};
use crate::api::wire::{
    CommitAsk, DiskUse, HistoryEntry, ImageDetails, ImageEntry, ImageStep, Loaded, PinAsk, Pinned, PruneAsk, Pruned,
    PullAsk, Pulled, PushAsk, Pushed, RemoveAsk, RemovedImage, TagAsk, Tagged, Verified, VerifyAsk,
};

const NAME: &[(&str, &str)] = &[("name", "a name, a digest, or at least four digits of one")];
const LINES: &str = "application/x-ndjson";
const ARCHIVE: &str = "application/x-tar";

pub(in crate::api) fn operations() -> Vec<Operation> {
    vec![
        get("/api/v1/images", "All images of this machine", &[], Answer::Json(of::<Vec<ImageEntry>>)),
        get("/api/v1/images/inspect", "All about one image", NAME, Answer::Json(of::<ImageDetails>)),
        get(
            "/api/v1/images/history",
            "How an image was made, last step first",
            NAME,
            Answer::Json(of::<Vec<HistoryEntry>>),
        ),
        post(
            "/api/v1/images/pull",
            "Asks the registry and fetches what is missing; given up when the client goes away and nobody else wants it",
            Ask::Json(of::<PullAsk>),
            Answer::Lines(LINES, of::<ImageStep<Pulled>>),
        ),
        post(
            "/api/v1/images/push",
            "Brings an image to its registry",
            Ask::Json(of::<PushAsk>),
            Answer::Lines(LINES, of::<ImageStep<Pushed>>),
        ),
        post("/api/v1/images/tag", "Gives another name", Ask::Json(of::<TagAsk>), Answer::Json(of::<Tagged>)),
        post(
            "/api/v1/images/remove",
            "Takes a name away, and what no other name needs; 409 where a container uses it",
            Ask::Json(of::<RemoveAsk>),
            Answer::Json(of::<RemovedImage>),
        ),
        post(
            "/api/v1/images/pin",
            "Keeps an image whatever happens, or no longer",
            Ask::Json(of::<PinAsk>),
            Answer::Json(of::<Pinned>),
        ),
        post(
            "/api/v1/images/prune",
            "Removes what nothing uses",
            Ask::Json(of::<PruneAsk>),
            Answer::Json(of::<Pruned>),
        ),
        post(
            "/api/v1/images/verify",
            "Compares images with what they should be, byte for byte; with `repair`, fetches again what is not",
            Ask::Json(of::<VerifyAsk>),
            Answer::Lines(LINES, of::<ImageStep<Verified>>),
        ),
        get(
            "/api/v1/images/save",
            "Images as an archive",
            &[("name", "an image; may stand several times"), ("format", "docker-archive (default) or oci-archive")],
            Answer::Text(ARCHIVE),
        ),
        Operation {
            query: &[("name", "a name for an image that has none in the archive")],
            ..post(
                "/api/v1/images/load",
                "Reads images from an archive: of docker save, or an OCI layout in a tar; plain, gzip or zstd; of any size",
                Ask::Bytes(ARCHIVE),
                Answer::Lines(LINES, of::<ImageStep<Loaded>>),
            )
        },
        Operation {
            query: &[
                ("name", "the image's name"),
                ("change", "a line of a Dockerfile that says how to run it; may stand several times"),
                ("message", "a note for its history"),
                ("platform", "os/architecture[/variant]; this machine's where left out"),
            ],
            ..post(
                "/api/v1/images/import",
                "Makes an image of one layer from a tar of files, of any size",
                Ask::Bytes(ARCHIVE),
                Answer::Lines(LINES, of::<ImageStep<Loaded>>),
            )
        },
        post(
            "/api/v1/images/commit",
            "Makes an image of a container: what it wrote is one more layer over its image",
            Ask::Json(of::<CommitAsk>),
            Answer::Lines(LINES, of::<ImageStep<Loaded>>),
        ),
        get(
            "/api/v1/system/df",
            "What lies on disk, by kind",
            &[("items", "true: also each thing by itself")],
            Answer::Json(of::<DiskUse>),
        ),
    ]
}
