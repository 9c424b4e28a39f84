//! How a payload leaves its row for the store: by the row trigger, or by an update below SQL of rows that are there
//! already. Uses `pg`, `value` and `session`; `ddl` and `reencrypt` use it.

pub mod row_trigger;
pub mod update;
