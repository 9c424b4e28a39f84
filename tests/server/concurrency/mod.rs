//! References that several sessions copy and move while the vacuum runs, step by step and as fast as they can: every visible row
//! reads back, and its file stays in its place.

mod isolation;
mod races;
mod races_under_load;
