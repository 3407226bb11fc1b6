//! The rules of the packet filter, as one table. Pure.
