//! What the tests stand on: a registry, a lab with a daemon of its own, and a look at the host from outside.

pub(crate) mod base;
pub(crate) mod compose;
pub(crate) mod disk;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod lab;
pub(crate) mod registry;
pub(crate) mod relay;
pub(crate) mod town;

pub(crate) use compose::{file, service, with};
pub(crate) use disk::Disk;
pub(crate) use lab::Lab;
pub(crate) use town::Town;

/// Makes two tests of each function: with the built-in runtime and with Debian's runc.
macro_rules! with_both_runtimes {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $name() { super::$name(&serde_json::json!({})); })*
        }
        mod runc {
            $(#[test] fn $name() { super::$name(&serde_json::json!({"runtime": "/usr/sbin/runc"})); })*
        }
    };
}
pub(crate) use with_both_runtimes;
