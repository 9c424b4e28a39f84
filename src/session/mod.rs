//! What a backend holds while a transaction runs: the open store and the uploads that the commit makes durable (I1),
//! the keys, the cursors WITH HOLD; and reading a payload through them. Uses `pg` and `value`; `write`, `ddl`,
//! `vacuum`, `check`, `reencrypt` and `sql` reach the store through it.

pub mod expanded;
pub mod held_cursors;
pub mod keys;
pub mod opening;
pub mod read;
pub mod references;
pub mod storing;
pub mod transaction;
