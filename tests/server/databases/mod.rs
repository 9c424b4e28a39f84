//! Databases that are made from a template, and databases that are dropped, take nothing from each other; one store has one
//! owner.

mod clone_from;
mod dropped;
mod half_made;
mod owner;
mod source;
mod templates;
