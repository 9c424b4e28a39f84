//! Every run of the vacuum leaves a row in its history, with its error if it failed; rows that tell about another store are not
//! believed; and the views show what is in the store and who keeps what.

mod believed;
mod encodings;
mod runs;
mod views;
