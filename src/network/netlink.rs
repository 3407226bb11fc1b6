//! Links, addresses and routes by rtnetlink(7), blocking, on a socket of any network namespace.
