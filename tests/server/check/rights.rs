//! rbytea_check() finds modes and owners that the store did not give, and what cannot be read because of them; and what cannot be
//! read hides nothing else.

use std::fs::{self};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::check::healthy::{Healthy, check, finds, finds_nothing, finds_with, give, healthy, set_mode};
use crate::evidence::{Promise, proves_by_assertions};

/// Places of each level of the store, below the root.
fn levels(healthy: &Healthy) -> Vec<String> {
    let (_, file) = healthy.payload(("plain", "uuid(r)"));
    let dirs = Path::new(&file).ancestors().map(|path| path.display().to_string());
    let trash = format!("{}/TRASH", healthy.database());
    let trashed = fs::read_dir(healthy.path(&trash)).unwrap().next().unwrap().unwrap().file_name();
    dirs.take(4).chain([format!("{trash}/{}", trashed.display()), trash, "OWNER".into()]).collect()
}

#[test]
fn rights_that_are_too_wide_and_foreign_owners_are_found() {
    let healthy = healthy();
    let db = &healthy.db;
    let mut cases = 0;
    for path in levels(&healthy) {
        let full = healthy.path(&path);
        let uuid =
            Path::new(&path).file_name().unwrap().to_str().unwrap().get(17..).unwrap_or_default().to_owned();
        let mode = fs::metadata(&full).unwrap().permissions().mode();
        set_mode(&full, mode | 0o044);
        finds_with(db, "", &[format!("wrong rights||{uuid}|{path}")]);
        set_mode(&full, mode);
        cases += 1;
        if healthy.cluster.installation().server_user.is_some() {
            chown(&full, Some(0), None).unwrap();
            let rest: Vec<_> =
                check(db, "").into_iter().filter(|line| !line.starts_with("unreadable")).collect();
            assert_eq!(rest, [format!("wrong rights||{uuid}|{path}")]);
            give(&healthy.cluster, &full);
            cases += 1;
        }
    }
    let root = healthy.cluster.store();
    set_mode(&root, 0o755);
    finds_nothing(db);
    set_mode(&root, 0o775);
    finds_with(db, "", &["wrong rights|||.".to_owned()]);
    set_mode(&root, 0o700);
    // A look at one table looks at the file alone.
    let (uuid, file) = healthy.payload(("plain", "uuid(r)"));
    set_mode(&healthy.path(&file), 0o644);
    finds_with(db, "'plain'", &[format!("wrong rights|plain|{uuid}|{file}")]);
    finds_with(db, "'encrypted'", &[]);
    set_mode(&healthy.path(&file), 0o600);
    set_mode(healthy.path(&file).parent().unwrap(), 0o755);
    finds_with(db, "'plain'", &[]);
    set_mode(healthy.path(&file).parent().unwrap(), 0o700);
    finds_nothing(db);
    proves_by_assertions(Promise::DamageIsNoticed, cases + 2);
}

/// What the server's user cannot read is reported, with every row that it takes away; the rest of the store is looked at all the
/// same. (A superuser of the operating system reads everything.)
#[test]
fn what_cannot_be_read_is_found_and_hides_nothing_else() {
    let healthy = healthy();
    let db = &healthy.db;
    let (uuid, file) = healthy.payload(("plain", "uuid(r)"));
    let beyond = "strange name".to_owned();
    fs::write(healthy.path(&beyond), b"").unwrap();
    let foreign = format!("foreign name|||{beyond}");
    let stem = |levels: usize| Path::new(&file).ancestors().nth(levels).unwrap().display().to_string();

    // A file: its rights are wrong, and only a check that reads it finds more.
    set_mode(&healthy.path(&file), 0);
    let wrong = format!("wrong rights||{uuid}|{file}");
    finds_with(db, "", &[foreign.clone(), wrong.clone()]);
    finds_with(db, "digest => true", &[foreign.clone(), wrong, format!("unreadable|plain|{uuid}|{file}")]);
    set_mode(&healthy.path(&file), 0o600);

    // A leaf, an era, the database: every row that has its file there is told of.
    for levels in 1..=3 {
        let dir = stem(levels);
        set_mode(&healthy.path(&dir), 0);
        let found = check(db, "");
        let told = |line: &String| found.contains(line);
        assert!(told(&foreign) && told(&format!("wrong rights|||{dir}")), "{found:#?}");
        assert!(told(&format!("unreadable|plain|{uuid}|{file}")), "{found:#?}");
        assert!(found.iter().any(|line| line.starts_with(&format!("unreadable|||{dir}"))), "{found:#?}");
        let others = found.iter().filter(|line| !line.starts_with("unreadable|")).count();
        assert_eq!(others, 2, "{found:#?}");
        let rows =
            found.iter().filter(|line| line.starts_with("unreadable|") && !line.starts_with("unreadable||"));
        assert!(rows.clone().all(|line| line.contains(&format!("|{dir}/"))), "{found:#?}");
        assert!(levels == 1 || rows.count() > 50, "{found:#?}");
        set_mode(&healthy.path(&dir), 0o700);
    }
    // Names can be read, but no more.
    set_mode(&healthy.path(&stem(1)), 0o400);
    let found = check(db, "'plain'");
    assert!(found.contains(&format!("unreadable|plain|{uuid}|{file}")), "{found:#?}");
    assert!(check(db, "").contains(&format!("unreadable||{uuid}|{file}")));
    set_mode(&healthy.path(&stem(1)), 0o700);
    let trash = format!("{}/TRASH", healthy.database());
    set_mode(&healthy.path(&trash), 0);
    finds(db, &[foreign.clone(), format!("unreadable|||{trash}"), format!("wrong rights|||{trash}")]);
    set_mode(&healthy.path(&trash), 0o700);
    set_mode(&healthy.path("OWNER"), 0);
    finds(db, &[foreign.clone(), "unreadable|||OWNER".into(), "wrong rights|||OWNER".into()]);
    set_mode(&healthy.path("OWNER"), 0o600);
    // The root: nothing can be found out.
    set_mode(&healthy.cluster.store(), 0);
    assert_eq!(db.sqlstate("select rbytea_check()").code(), "42501");
    set_mode(&healthy.cluster.store(), 0o700);
    finds(db, &[foreign]);
    proves_by_assertions(Promise::DamageIsNoticed, 8);
}
