//! The storage plugin for Orthanc, loaded by a core of the tests' own that calls it as Orthanc does: what it has acknowledged is
//! there, whatever becomes of connections and servers, and what it has not stored it has said.

mod bed;
mod clients;
mod configurations;
mod core;
mod faults;
mod files;
mod locks;
mod moves;
mod network;
mod patience;
mod real;
mod real_faults;
mod servers;
