//! Subscriptions between databases of one cluster, which differ in nothing from those between clusters but for the connection.

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;

/// A subscription that is enabled: what the publication of one database has goes to the other.
pub struct Link<'a> {
    name: String,
    from: &'a Session,
    to: &'a Session,
}

/// The copy of each table is begun by a worker of its own, and the next one waits for so long.
pub const QUICK: &[&str] = &["wal_retrieve_retry_interval = 100ms"];

/// Makes the database `far` with the extension.
pub fn far(cluster: &Cluster) -> Session {
    cluster.session().run("create database far");
    let far = cluster.session_in("far");
    far.run("create extension rbytea");
    far
}

impl<'a> Link<'a> {
    /// Subscribes `to` to a publication of `from`; subscription and slot have this name.
    #[track_caller]
    pub fn new(
        cluster: &Cluster,
        (from, to): (&'a Session, &'a Session),
        name: &str,
        publication: &str,
        options: &str,
    ) -> Self {
        let database: String = from.one("select current_database()::text", &[]);
        // Creating the slot with the subscription would wait for the subscription's own transaction.
        let two_phase = options.contains("two_phase = true");
        from.run(&format!(
            "select pg_create_logical_replication_slot('{name}', 'pgoutput', false, {two_phase})"
        ));
        to.run(&format!(
            "create subscription {name} connection 'host={} port={} user=postgres dbname={database}' publication {publication}
             with (create_slot = false, slot_name = '{name}'{options})",
            cluster.dir().display(),
            cluster.port()
        ));
        Self { name: name.to_owned(), from, to }
    }

    /// Waits until the subscriber has everything that was committed until now.
    #[track_caller]
    pub fn catch_up(&self) {
        let ready = "select coalesce(bool_and(srsubstate = 'r'), true) from pg_subscription_rel join pg_subscription s on s.oid = srsubid where subname = $1";
        wait_until(PATIENCE, || self.to.one(ready, &[&self.name]));
        let lsn: String = self.from.one("select pg_current_wal_lsn()::text", &[]);
        let confirmed = "select confirmed_flush_lsn >= $2::text::pg_lsn from pg_replication_slots where slot_name = $1::text::name";
        wait_until(PATIENCE, || self.from.one(confirmed, &[&self.name, &lsn]));
    }

    /// Ends it.
    #[track_caller]
    pub fn end(self) {
        let Self { name, from, to } = self;
        to.run(&format!(
            "alter subscription {name} disable; alter subscription {name} set (slot_name = none)"
        ));
        to.run(&format!("drop subscription {name}"));
        wait_until(PATIENCE, || from.try_run(&format!("select pg_drop_replication_slot('{name}')")).is_ok());
    }
}
