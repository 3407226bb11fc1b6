//! Short single-threaded helper calls that must not run in the daemon (entering a running container forks). None is needed yet: a
//! container is started and followed by its [`shim`](crate::shim), and ended by descriptor and cgroup.
