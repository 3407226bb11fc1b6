//! Volumes: their folders and records in the data directory, what the driver's options mount on them, and copies of them.
//!
//! ```text
//! DATA/volumes/NAME/   volume.json   what it was made as (there from the moment it exists)
//!                      _data/        what it holds, or where what its options name is mounted
//!                      .fill-…/      its first content in the making; renamed to `_data` when it is whole
//! DATA/volumes/.trash/ volumes whose removal has begun
//! DATA/snapshots/VOLUME/NAME/   copies of volumes
//! ```
//! A volume is removed by its owner's word alone.
