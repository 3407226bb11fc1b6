//! The links of a container: made from the host's side, set up from inside.
