//! A standby has no background vacuum until it is promoted; then it has one, which asks before it touches a store that is not known to be its own.

use crate::support::background::{Background, Watching, cluster_with};
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::standby::standby_of;
use crate::support::twin_tables::{Twins, assert_live_is};

#[test]
fn a_standby_vacuums_after_its_promotion_and_adoption_and_not_before() {
    let primary = cluster_with(&[]);
    let db = primary.session();
    db.fill("t", 1..=4);
    db.run("checkpoint");
    let mut standby = standby_of(&primary, &["rbytea.recovery_store = shared"]);
    let reader = standby.session();
    wait_until(PATIENCE, || reader.one::<i64>("select count(*) from t", &[]) == 4);
    assert_eq!(reader.launcher(), None, "a standby has nothing to move");
    reader.assert_stored("t", 4);
    assert_eq!(standby.visits("postgres"), 0);
    assert_eq!(reader.sqlstate("select rbytea_adopt_store()").code(), "25006");

    reader.run("select pg_promote()");
    let db = standby.session();
    wait_until(PATIENCE, || db.launcher().is_some());
    db.fill("t", 5..=6);
    db.run_and_tell("delete from t where n <= 2");
    let said =
        "The payload store belongs to another cluster, or to this one before a promotion or a restore.";
    standby.await_log(said);
    for _ in 0..2 {
        standby.await_visit("postgres");
    }
    assert_eq!(standby.logged(said), 1, "said once");
    assert_eq!((standby.live().len(), standby.trash().len()), (6, 0), "files were moved without leave");
    assert_eq!(db.sqlstate("select rvacuum()").code(), "55000");
    db.assert_stored("t", 4);

    let previous: String = db.one("select rbytea_adopt_store()", &[]);
    assert!(previous.contains("timeline 1"), "{previous}");
    wait_until(PATIENCE, || standby.live().len() == 4);
    assert_live_is(&standby, &db, &[("r", "t")]);
    db.assert_stored("t", 4);
    standby.restart();
    let db = standby.session();
    db.run_and_tell("delete from t where n = 3");
    wait_until(PATIENCE, || standby.live().len() == 3);
    assert_eq!(standby.logged(said), 1, "adopted for good");
}
