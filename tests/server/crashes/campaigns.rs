//! Real crashes under load. Clients insert, update, copy references, delete, roll back, prepare, truncate, re-encrypt and
//! vacuum, a database is made from a template now and then, and the background vacuum deletes at the first allowed moment,
//! while SIGKILL hits backends, the vacuum's worker and launcher, the server's own processes and the postmaster with
//! everything below it. After each recovery every acknowledged commit has to read back by the digest that the client has
//! kept; a transaction whose end was not acknowledged is there as a whole or not at all; what was prepared is still prepared.
//! Then the vacuum has to collect whatever no row needs.
//!
//! What SIGKILL shows: that what a process had in its memory alone is not needed, whenever it dies, and that recovery and the
//! store agree. What it cannot show: that fsync was called, since the kernel keeps what was written. That is shown by
//! crates/store/tests, which replays every order of syncs against a file system that forgets.
//!
//! RBYTEA_CRASHES is the number of kills in all (60 by default; `make soak`), RBYTEA_CRASHES_SEED repeats the choices as far as
//! concurrency allows; RBYTEA_ON_DISK puts the clusters on a disk, where an fsync takes its time.

use super::campaign::Campaign;
use super::world::Commits;

use crate::evidence::{Found, Promise, proves};
use crate::support::judge::And;
use crate::support::runs::number;

/// Kills in all, unless RBYTEA_CRASHES says how many.
const KILLS: u64 = 60;

/// Half of the kills.
fn half(commits: Commits) {
    let kills = number("RBYTEA_CRASHES").unwrap_or(KILLS).div_ceil(2);
    let seed = number("RBYTEA_CRASHES_SEED").unwrap_or_else(rand::random);
    let mut sum = Found::default();
    // One campaign, unless its server has lost what it had to keep.
    for campaign in 0.. {
        let found = Campaign::new(seed.wrapping_add(campaign), commits).run(kills - sum.cases);
        sum.add(found);
        if sum.cases >= kills {
            break;
        }
    }
    let Found { cases, lost, dangling, leaked } = sum;
    proves(Promise::Durable, Found { cases, lost, dangling, leaked: 0 });
    proves(Promise::OnlyGarbage, Found { cases, lost: 0, dangling, leaked: 0 });
    proves(Promise::Collected, Found { cases, lost: 0, dangling: 0, leaked });
}

#[test]
fn whatever_is_killed_no_acknowledged_commit_is_lost_and_nothing_is_left_behind() {
    half(Commits::Mixed);
}

/// A crash may take commits back then, the last ones first. What is there is there with its payload.
#[test]
fn where_no_commit_waits_for_its_wal_every_row_that_a_crash_leaves_has_its_payload() {
    half(Commits::Asynchronous);
}
