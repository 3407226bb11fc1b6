//! Which subnet a network gets, and which address a container. Pure.
