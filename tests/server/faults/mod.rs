//! Failing system calls, full disks, mounts that vanish, damaged files, cancels and signals: an error with the right SQLSTATE, and
//! nothing that was acknowledged is lost.

mod bed;
mod file_errors;
mod full_disk;
mod full_disk_sessions;
mod full_disk_ways;
mod injected_clones;
mod injected_first_writes;
mod injected_vacuums;
mod injected_visits;
mod injected_writes;
mod interruptions;
mod mounts;
mod planted;
mod short_transfers;
mod store_errors;
mod thin_devices;
