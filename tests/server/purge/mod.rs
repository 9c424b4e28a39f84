//! The purge deletes from TRASH what is due (I8), and nothing that a snapshot, a cursor, a variable or another session could still
//! bring back; and it says what keeps the rest.

mod cursors;
mod cursors_gone;
mod due_files;
mod hidden_values;
mod horizons;
mod notices;
mod temporary_tables;
mod waiting;
