//! The resolver that containers ask.
//!
//! Each container asks 127.0.0.11 port 53, as with Docker. Rules in its own network namespace ([`redirect()`]) lead that to a high port
//! of the same address, so that the container itself may have port 53. There listen two [`sockets`] that the shim opened in the
//! container's namespace, its follower keeps ([`kept()`]) and the daemon serves ([`Resolver`]).
//!
//! ```text
//! question ─▶ wire ─▶ zone: who asks, on which networks ─▶ known: answer
//!                                                  └─▶ unknown: cache ─▶ join the same question under way ─▶ upstream servers
//! ```
//! What runs now is the [`Zone`]. It is pure, and is replaced as a whole at each change: who no longer runs is gone from the next
//! answer on.
//!
//! An open socket keeps a network namespace alive. Who serves a container closes it ([`Resolver::close`]) when it ended, else its links
//! stay.

mod answer;
mod cache;
mod forward;
mod kept;
mod redirect;
mod resolv;
mod server;
mod upstream;
mod wire;
mod zone;

pub use kept::kept;
pub use redirect::{ADDRESS, PORT, redirect, redirected};
pub use server::{Resolver, Settings, open, sockets};
pub use zone::{Found, Joined, Kind, Member, Zone};
