//! Work inside another network namespace.
