//! Single rules of networks, as tables.
