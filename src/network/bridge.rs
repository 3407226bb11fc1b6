//! The bridge of a network.
