//! Sessions that do whatever SQL allows to tables with payloads and, in the same transaction, to twins of these tables with plain
//! bytea; what disturbs them; and what has to be true in the end.

pub mod actor;
pub mod chaos;
mod check;
mod copies;
mod ddl;
pub mod pairs;
mod programs;
mod trouble;
mod upkeep;
pub mod verdict;
pub mod world;
mod writes;
