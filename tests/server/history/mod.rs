//! Every run of the vacuum leaves a row in its history, with its error if it failed, and the views show what is in the store and who
//! keeps what.

mod encodings;
mod runs;
mod views;
