//! `make installcheck`: the expected output of SQL scripts, as PGXS users run it.

use crate::support::cluster::Cluster;

#[test]
fn installcheck_passes() {
    let cluster = Cluster::running();
    let root = env!("CARGO_MANIFEST_DIR");
    let make = cluster
        .client_command("make")
        .arg("installcheck")
        .arg(format!("PG_CONFIG={}", cluster.installation().pg_config.display()))
        .arg(format!("REGRESS_OUTPUT={}", cluster.dir().display()))
        .env_remove("MAKEFLAGS")
        .env_remove("PGDATABASE")
        .current_dir(root)
        .output()
        .unwrap();

    let diffs = std::fs::read_to_string(cluster.dir().join("regression.diffs")).unwrap_or_default();
    assert!(
        make.status.success(),
        "{}{}{diffs}",
        String::from_utf8_lossy(&make.stdout),
        String::from_utf8_lossy(&make.stderr)
    );
}
