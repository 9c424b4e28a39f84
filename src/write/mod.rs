//! How a payload leaves its row for the store: by the row trigger, or by an update below SQL of rows that are there
//! already, all at once or in batches. Uses `pg`, `value` and `session`; `ddl`, `vacuum` and `reencrypt` use it.

pub mod pass;
pub mod published;
pub mod row_trigger;
pub mod update;
