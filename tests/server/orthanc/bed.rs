//! A cluster with a core on it.

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, POSTGRES};

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

/// The N-th uuid of a test.
pub fn uuid(number: u32) -> String {
    format!("{number:08x}-1234-4567-89ab-cdef01234567")
}
