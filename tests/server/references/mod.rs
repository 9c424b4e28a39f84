//! Payloads that leave a database other than as its rows' bytes, and come in so: dumps by reference, files of the server, and what no
//! datum, no dump in text and no subscription can be or take.

mod borders;
mod bytes;
mod clusters;
mod dumped;
mod dumps;
mod exports;
mod files;
mod imports;
mod larger;
mod logged;
mod lost_power;
mod progress;
mod published;
mod published_rows;
mod reflinks;
mod refusals;
mod transactions;
mod users;
