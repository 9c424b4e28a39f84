//! pg_upgrade from one major version to another, and what comes after it: the payloads are there, and every table stores new
//! ones again. `make upgrade-test OLD=<pg_config> NEW=<pg_config>` runs these tests for a pair of installations.
//!
//! The minor release of the new installation must be as new as that of the old one. The releases of November 2026 (15.20 and
//! its contemporaries) give each column of each table the attribute option `pg_attver`, which servers before them refuse, so
//! pg_upgrade of any table fails from 15.20 to 18.4 in "Restoring database schemas". Where the new release is older, upgrade from
//! an older one: `scripts/get-postgres.sh 15` brings 15.5, `scripts/get-postgres.sh 17.10` brings 17.10.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::backup::contents::{DATABASES, contents, fill, lost, rows, stores_again, wrong};
use crate::backup::restored::{own_dir, store_at, system, text};
use crate::evidence::{Found, Promise, proves};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::installation::Installation;
use crate::support::store_files::StoreFiles;
use crate::support::twin_tables::Twins;

/// How pg_upgrade brings the files of tables over.
const COPY: &str = "--copy";
const LINK: &str = "--link";

/// Files in LIVE and in TRASH.
fn files(store: &Path) -> BTreeMap<u32, (usize, usize)> {
    StoreFiles::walk(store)
        .into_iter()
        .map(|(oid, files)| (oid, (files.live.len(), files.trash.len())))
        .collect()
}

/// pg_upgrade of the old cluster, which has been stopped, to the new one, which was never started.
#[track_caller]
fn pg_upgrade(old: &Cluster, new: &Cluster, mode: &str) {
    let mut upgrade = new.server_command(new.tool("pg_upgrade"));
    // The default, which has no name in versions before 16.
    if mode != COPY {
        upgrade.arg(mode);
    }
    let output = upgrade
        .args(["--no-sync", "--username=postgres", "--old-bindir", text(&old.installation().bindir)])
        .args(["--new-bindir", text(&new.installation().bindir), "--old-datadir", text(&old.data())])
        .args(["--new-datadir", text(&new.data()), "--socketdir", text(new.dir())])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "pg_upgrade {mode} from {} to {}:\n{}{}",
        old.installation().version,
        new.installation().version,
        String::from_utf8_lossy(&output.stdout),
        logs(&new.data().join("pg_upgrade_output.d"))
    );
}

/// The errors in pg_upgrade's logs.
fn logs(dir: &Path) -> String {
    let grep = Command::new("grep").args(["-rhE", "ERROR|error:|FATAL", text(dir)]).output().unwrap();
    String::from_utf8_lossy(&grep.stdout).into_owned()
}

/// The whole way, as docs/BACKUP.md tells it; the rows that were compared.
fn upgrade(old: &Installation, new: &Installation, mode: &str, outside: bool) -> Found {
    let mut conf = vec![];
    let mut old = Cluster::stopped_of(old.clone(), &[]);
    let place = own_dir(&old, "store");
    let path = store_at(&place);
    if outside {
        old.set_conf(&path);
        // A worker that is awake during pg_upgrade could take payloads for garbage.
        conf.extend([
            &path,
            "rbytea.databases_for_vacuuming = 'postgres, original'",
            "rbytea.vacuum_naptime = '1s'",
        ]);
    }
    let mut new = Cluster::stopped_of(new.clone(), &conf);
    let store = |cluster: &Cluster| if outside { place.clone() } else { cluster.store() };

    old.start();
    fill(&old);
    let db = old.session();
    db.run("analyze");
    assert_eq!(db.rvacuum(), 1, "the store has something in TRASH, too");
    let (kept, before) = (contents(&old), files(&store(&old)));
    let frontier: String = db.one("select max(upper)::text from rbytea.rbytea_vacuum_history", &[]);
    drop(db);
    old.stop(Shutdown::Fast);
    pg_upgrade(&old, &new, mode);
    assert_eq!(files(&store(&old)), before, "pg_upgrade has moved payloads");
    if !outside {
        fs::rename(old.store(), new.store()).unwrap();
    }
    system("sh", &[text(&new.dir().join("delete_old_cluster.sh"))]);
    assert!(!old.data().exists(), "the test is about an old cluster that is gone");

    new.start();
    let read = contents(&new);
    let mut found = Found { cases: rows(&read), ..Found::default() };
    found.lost = lost(&kept, &read) + lost(&read, &kept);
    let db = new.session();
    assert_eq!(db.sqlstate("select rbytea_store('a')").code(), "55000", "not the owner of the store yet");
    let runs = "select last_success is null, exists (select from rbytea.rbytea_vacuum_history h, pg_control_system() c
                                                      where h.system_identifier <> c.system_identifier) from rbytea.rbytea_stat";
    assert_eq!(db.text(runs), "t|t", "runs of the old cluster are there, and not believed");
    assert_eq!(db.sqlstate("select rvacuum()").code(), "55000");
    drop(db);
    if outside {
        // The worker puts the triggers back by itself, also if another cluster owns the store.
        wait_until(PATIENCE, || {
            new.log().matches("rbytea put the row trigger of").count() == DATABASES.len()
        });
        new.set_conf("rbytea.databases_for_vacuuming = ''");
        new.restart();
    }
    assert_eq!(files(&store(&new)), before, "the vacuum has moved payloads of another cluster");

    new.session().run("select rbytea_adopt_store()");
    for database in DATABASES {
        let db = new.session_in(database);
        let attached: i64 = db.one("select rbytea_attach()", &[]);
        assert_eq!(
            attached > 0,
            !outside,
            "{database}: pg_upgrade loses row triggers; {attached} were put back"
        );
        assert_eq!(db.one::<i64>("select rbytea_attach()", &[]), 0);
        assert_eq!(
            db.text("select lost, trashed from rbytea.rbytea_vacuum_history where lost > 0 or (trashed > 0 and origin = 'background')"),
            "",
            "{database}: the vacuum has taken something for garbage"
        );
        let newest: String = db.one("select pg_current_xact_id()::text", &[]);
        assert!(
            database != "postgres" || newest.parse::<u64>().unwrap() >= frontier.parse().unwrap(),
            "transaction ids have begun anew, and births with them"
        );
        stores_again(&db, database);
        db.run(
            "do $$ declare upload bigint := rbytea_begin();
                   begin insert into rbytea_upload values (upload, 'pie'), (upload, 'ces');
                   assert convert_from(rbytea_finish(upload), 'UTF8') = 'pieces'; end $$",
        );
    }
    let db = new.session();
    db.run("delete from t");
    assert!(db.rvacuum() >= 3, "the new cluster does not vacuum");
    assert_eq!(db.text(runs), "f|f", "runs of the old cluster are still there");
    assert_eq!(db.text("select lost from rbytea.rbytea_vacuum_history order by id desc limit 1"), "0");
    let mut expected = read;
    expected.remove("postgres: t");
    let mut after = contents(&new);
    after.remove("postgres: t");
    found.lost += lost(&expected, &after);
    found.leaked = wrong(&new);
    found
}

/// Runs this pair under a name of its own, so that the evidence of one does not replace that of another.
fn prove(mode: &'static str, outside: bool) {
    let old =
        std::env::var_os("RBYTEA_UPGRADE_FROM").expect("make upgrade-test OLD=<pg_config> NEW=<pg_config>");
    let (old, new) = (Installation::of(old.into()), Installation::from_environment());
    assert!(old.major < new.major, "{} is no upgrade from {}", new.version, old.version);
    let place = if outside { "outside" } else { "inside" };
    let name = format!("backup::upgrade::{}_to_{}_{}_{place}", old.major, new.major, &mode[2..]);
    let proof = std::thread::Builder::new()
        .name(name)
        .spawn(move || proves(Promise::Backups, upgrade(&old, &new, mode, outside)));
    if let Err(panic) = proof.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
#[ignore = "needs two installations: make upgrade-test"]
fn an_upgrade_that_copies_with_the_store_inside_keeps_every_payload() {
    prove(COPY, false);
}

#[test]
#[ignore = "needs two installations: make upgrade-test"]
fn an_upgrade_that_copies_with_the_store_outside_keeps_every_payload() {
    prove(COPY, true);
}

#[test]
#[ignore = "needs two installations: make upgrade-test"]
fn an_upgrade_that_links_with_the_store_inside_keeps_every_payload() {
    prove(LINK, false);
}

#[test]
#[ignore = "needs two installations: make upgrade-test"]
fn an_upgrade_that_links_with_the_store_outside_keeps_every_payload() {
    prove(LINK, true);
}
