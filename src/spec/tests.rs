//! The room as a whole: good files, bad files, and what their owners are told.

mod bad_text;
mod corpus;
mod messages;
mod mutations;
mod services;
