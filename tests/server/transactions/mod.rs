//! A payload is there when its transaction has committed or was prepared, and garbage when it was rolled back, whatever the
//! transaction was made of.

mod outcomes;
mod prepared;
