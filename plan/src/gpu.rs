//! The GPU catalogue.
