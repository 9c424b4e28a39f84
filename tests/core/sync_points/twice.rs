//! twice
