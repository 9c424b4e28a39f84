//! Where the file system shares blocks between files, imports, exports and restores take none.

use std::fs;
use std::process::Command;

use crate::references::dumped::{NOT_LOGGED, accept, database, reference};
use crate::references::files::{OnXfs, file, literal};
use crate::support::session::Session;
use crate::support::twins::noise;
use crate::support::volumes::Volume;

const LEN: usize = 64 << 20;
/// What may go for directories and the like.
const LITTLE: u64 = 8 << 20;

/// That this takes next to no space.
#[track_caller]
fn assert_shares(volume: &Volume, what: &str, work: impl FnOnce()) {
    let before = volume.free().0;
    work();
    let taken = before.saturating_sub(volume.free().0);
    assert!(taken < LITTLE, "{what} takes {taken} bytes for {LEN}");
}

fn sum(db: &Session) -> String {
    db.text("select sha256sum(r) from t")
}

#[test]
fn imports_exports_and_restores_share_their_blocks() {
    let xfs = OnXfs::new(&[NOT_LOGGED]);
    let (cluster, volume) = (&xfs.cluster, &xfs.volume);
    let db = database(cluster, "source");
    db.run("create table t (n int, r rbytea)");
    let (path, exported) = (xfs.file("in"), xfs.file("out"));
    let bytes = noise(LEN, 1);
    file(cluster, &path, &bytes);
    assert_shares(volume, "an import", || {
        db.run(&format!("insert into t values (1, rbytea_import({}))", literal(&path)));
    });
    assert_shares(volume, "an export", || {
        assert_eq!(
            db.text(&format!("select rbytea_export(r, {}) from t", literal(&exported))),
            LEN.to_string()
        );
    });
    assert!(fs::read(&exported).unwrap() == bytes);
    // What is done to the one file is nothing to the others.
    file(cluster, &path, b"another content");
    file(cluster, &exported, b"another content");
    assert_eq!(db.text("select problem from rbytea_check(digest => true)"), "");

    let text = reference(&db, "r from t");
    let copy = database(cluster, "copy");
    copy.run("create table t (n int, r rbytea)");
    // A copy that may not be linked.
    let taken = xfs.file("copy");
    assert_shares(volume, "cp --reflink", || {
        let from = xfs.directory(&db);
        let copied = Command::new("cp").args(["-a", "--reflink=always"]).args([&from, &taken]).status();
        assert!(copied.unwrap().success());
    });
    Command::new("chmod").args(["-R", "g+r"]).arg(&taken).status().unwrap();
    accept(&copy, "on", Some(&taken));
    assert_shares(volume, "a restore", || copy.run(&format!("insert into t values (1, '{text}')")));
    assert_eq!(sum(&copy), sum(&db));
    assert_eq!(copy.text("select problem from rbytea_check(digest => true)"), "");
}
