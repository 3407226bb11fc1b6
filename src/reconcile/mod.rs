//! Decides when to look, what is under way, and what the status says.

pub mod view;
