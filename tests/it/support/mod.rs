//! What the tests stand on: a registry, a lab with a daemon of its own, and a look at the host from outside.

pub(crate) mod base;
pub(crate) mod compose;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod lab;
pub(crate) mod registry;

pub(crate) use compose::{file, service, with};
pub(crate) use lab::Lab;
