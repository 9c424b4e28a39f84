//! The mark: which payloads some tuple refers to. Counts every non-removable tuple, in every relation
//! that can hold a value, and is valid only if the removal horizon did not move meanwhile: then nothing that was alive
//! at its start can have vanished before the scan came to it, so a reference that was copied during the scan has a
//! source that was counted. Uses `pg` and `value`; `ddl`, `vacuum`, `check` and `sql` use it.

pub mod columnstore;
pub mod horizon;
pub mod preconditions;

mod depend;
mod found;
mod marking;
mod relations;
mod scan;
mod sort;

pub use depend::{relations_using_row_type, relations_using_type};
pub use found::Mark;
pub use marking::{keys, mark};
pub use relations::{fingerprint, hidden};
pub use sort::SortedReferences;
