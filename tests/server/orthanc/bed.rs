//! A cluster with a core on it.

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, PATIENCE, POSTGRES, wait_until};
use crate::support::session::Session;

use super::core::Core;

/// The configuration for a cluster, with these keys of the section `Rbytea` besides.
pub fn configuration(cluster: &Cluster, more: Value) -> Value {
    let mut section = json!({
        "EnableStorage": true,
        "Host": cluster.dir(),
        "Port": cluster.port(),
        "Database": POSTGRES,
        "Username": POSTGRES,
        "ConnectionRetryInterval": 1,
    });
    section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "Name": "test", "Rbytea": section })
}

/// The same configuration with Orthanc's index in the database, by the official plugin, which has these keys of its own.
pub fn with_official_index(mut configuration: Value, more: Value) -> Value {
    let mut section = configuration["Rbytea"].clone();
    let own = json!({ "EnableIndex": true, "EnableStorage": false });
    for keys in [own, more] {
        section.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    }
    configuration["PostgreSQL"] = section;
    configuration
}

/// A core on a cluster.
pub fn core(cluster: &Cluster, more: Value) -> Core {
    Core::start(cluster.dir(), &configuration(cluster, more))
}

/// A cluster with the extension that the background vacuum visits.
pub fn cluster() -> Cluster {
    cluster_with(&[])
}

/// The same with these lines added to postgresql.conf.
pub fn cluster_with(conf: &[&str]) -> Cluster {
    Cluster::with_extension_and(&[&["rbytea.databases_for_vacuuming = 'postgres'"], conf].concat())
}

/// A backend of the plugin's that is in the middle of something, as soon as there is one.
pub fn busy(db: &Session) -> i32 {
    let query = "select pid from pg_stat_activity
                  where application_name = 'Orthanc (rbytea storage)' and (state = 'active' or backend_xmin is not null)";
    let mut pids: Vec<i32> = Vec::new();
    wait_until(PATIENCE, || {
        pids = db.column(query, &[]);
        !pids.is_empty()
    });
    pids[0]
}

/// How to connect to two servers, of which the one is taken that can be written to.
pub fn either(primary: &Cluster, standby: &Cluster) -> String {
    format!(
        "host={},{} port={},{} dbname=postgres user=postgres target_session_attrs=read-write",
        primary.dir().display(),
        standby.dir().display(),
        primary.port(),
        standby.port()
    )
}

/// The N-th uuid of a test.
pub fn uuid(number: u32) -> String {
    format!("{number:08x}-1234-4567-89ab-cdef01234567")
}
