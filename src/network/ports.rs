//! Ports of the host: which are free, who has them, and keeping them.
