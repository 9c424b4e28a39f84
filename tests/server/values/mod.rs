//! What a value is by itself: pure (I2), small in its row, without traces in statistics, and equal to what the system's own
//! programs say of its file.

mod functions_of_the_original;
mod pure;
mod row_costs;
mod statistics;
