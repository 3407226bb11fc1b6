//! Kernel parameters of networks.
