//! The room as a whole: good files, bad files, and what their owners are told.

mod bad_text;
mod corpus;
mod files;
mod health;
mod isolation;
mod messages;
mod mutations;
mod networks;
mod networks_bad;
mod order;
mod ports;
mod profiles;
mod resources;
mod services;
mod volumes;
