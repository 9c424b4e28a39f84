//! rvacuum() moves to TRASH what no row and no snapshot needs, and that alone (I5, I6); when it is not sure it moves nothing and
//! says why (I9, I10).

mod broken_stores;
mod further_references;
mod horizon;
mod keeping;
mod references;
mod refusals;
mod store_directories;
mod sweep;
