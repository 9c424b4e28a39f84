//! SIGKILL, anywhere and at chosen places: what was committed or prepared reads back, and the vacuum collects everything else.
//! The judge of these tests is tested, too.

mod at_points;
mod campaign;
mod campaigns;
mod client;
mod clones;
mod databases;
mod judge;
mod pair;
mod planted;
mod prepared;
mod recovery;
mod strike;
mod transactions;
mod ways;
mod work;
mod world;
mod writes;
