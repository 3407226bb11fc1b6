//! The API's own formats. They are promises: model and view can change without them, and they are turned into these and
//! nothing else. Readers ignore fields that they do not know, so that fields can be added.

mod container;
mod error;
mod event;
mod health;
mod image;
mod log;
mod plan;
mod problem;
mod registry;
mod status;
mod time;

pub use container::{Container, ContainerState};
pub use error::{ErrorBody, ErrorFacts};
pub use event::Event;
pub use health::{Confirmed, Health, Looked, Version};
pub use image::{Image, ImageState};
pub use log::LogRecord;
pub use plan::{Counts, Plan, Step, Wait};
pub use problem::{Problem, Severity};
pub use registry::{LoggedIn, LoggedOut, LoginAsk, LogoutAsk};
pub use status::{Folder, Held, Phase, Project, Service, Status, Store};
pub use time::{Time, TimeError, parse_since};
