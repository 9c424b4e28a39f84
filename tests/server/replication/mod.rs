//! Standbys and subscribers have every payload, with a store of their own or on their primary's; what a slot or a standby still needs
//! is not deleted.

mod histories;
mod logical_shapes;
mod logical_slots;
mod logical_tables;
mod named_holders;
mod standby_promoted;
mod standby_shared_store;
mod standby_stores;
