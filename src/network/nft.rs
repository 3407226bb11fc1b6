//! The program `nft`.
