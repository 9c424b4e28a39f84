//! `orthanc-rbytea`: files of a real Orthanc from large objects and from its file system, and back, with nothing lost; what is damaged,
//! missing or unknown is found.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, POSTGRES};
use crate::support::orthanc::{Orthanc, dicom};
use crate::support::session::Session;
use crate::support::tool::{Ran, run};

use super::bed::{cluster, configuration, core};
use super::clients::command;

#[track_caller]
fn moved(cluster: &Cluster, arguments: &[&str]) -> Ran {
    run(&mut command(cluster, arguments)).ends_with(0)
}

/// The official plugins on a cluster.
fn official(cluster: &Cluster, storage: bool) -> Value {
    json!({ "PostgreSQL": {
        "EnableIndex": true, "EnableStorage": storage,
        "Host": cluster.dir(), "Port": cluster.port(), "Database": POSTGRES, "Username": POSTGRES,
    } })
}

/// The same with the index, and our storage.
fn ours(cluster: &Cluster) -> Value {
    let mut sections = official(cluster, false);
    sections["Rbytea"] = json!({ "EnableStorage": true });
    sections
}

fn upload(orthanc: &Orthanc) -> Vec<(String, Vec<u8>)> {
    let files =
        [1, 2, 50].into_iter().enumerate().map(|(number, frames)| dicom("MOVED", number as u32, frames));
    files.map(|file| (orthanc.upload(&file), file)).collect()
}

#[track_caller]
fn all_there(orthanc: &Orthanc, files: &[(String, Vec<u8>)]) {
    for (id, file) in files {
        let answer = orthanc.request("GET", &format!("/instances/{id}/file"), b"");
        assert!(answer.status == 200 && answer.body == *file, "{id} is lost: {}", orthanc.log());
    }
}

fn count(db: &Session, table: &str) -> i64 {
    db.one(&format!("select count(*) from {table}"), &[])
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn large_objects_of_the_official_plugin_come_and_go_back() {
    let cluster = cluster();
    let db = cluster.session();
    let orthanc = Orthanc::start(&official(&cluster, true));
    let files = upload(&orthanc);
    let stored = count(&db, "storagearea");
    assert!(stored >= 3);
    orthanc.stop();

    let all = run(&mut command(&cluster, &["check"])).ends_with(1);
    assert!(all.said.contains("has no files of Orthanc"), "{}", all.said);
    // One file is not what the index knows: it stays where it is, and the others are moved.
    db.run("select lo_put(content, 200, 'damaged') from (select content from storagearea limit 1) as s");
    run(&mut command(&cluster, &["import", "--from-large-objects", "--remove"])).ends_with(1);
    assert_eq!((count(&db, "orthanc_files"), count(&db, "storagearea")), (stored - 1, 1));
    let missing = run(&mut command(&cluster, &["check", "--digest"])).ends_with(2);
    assert_eq!(missing.text().lines().count(), 1, "{}", missing.text());
    assert!(missing.text().contains("missing"), "{}", missing.text());
    // Orthanc goes on meanwhile, and reads what is not moved where it is.
    let mut sections = ours(&cluster);
    sections["Rbytea"]["ReadFrom"] = json!("LargeObjects");
    let orthanc = Orthanc::start(&sections);
    let (whole, damaged): (Vec<_>, Vec<_>) = files
        .iter()
        .cloned()
        .partition(|(id, file)| orthanc.request("GET", &format!("/instances/{id}/file"), b"").body == *file);
    assert_eq!((whole.len(), damaged.len()), (2, 1));
    orthanc.stop();
    // As it was.
    let uuid: String = db.one("select uuid::text from storagearea", &[]);
    let whole = files.iter().map(|(_, file)| file).find(|file| {
        let md5: String = db.one("select compressedhash from attachedfiles where uuid = $1", &[&uuid]);
        md5 == db.one::<String>("select md5($1::bytea)", &[file])
    });
    db.execute("update storagearea set content = lo_from_bytea(0, $1)", &[whole.unwrap()]);
    let orthanc = Orthanc::start(&sections);
    all_there(&orthanc, &files);
    let note = format!("/instances/{}/attachments/note", files[0].0);
    assert_eq!(orthanc.request("PUT", &note, b"new").status, 200);
    assert_eq!(count(&db, "orthanc_files"), stored, "new files go to the tables");
    assert_eq!(orthanc.request("DELETE", &note, b"").status, 200);
    orthanc.stop();
    moved(&cluster, &["import", "--from-large-objects", "--remove"]);
    assert_eq!((count(&db, "orthanc_files"), count(&db, "storagearea")), (stored, 0));
    moved(&cluster, &["check", "--digest"]);

    let orthanc = Orthanc::start(&ours(&cluster));
    all_there(&orthanc, &files);
    orthanc.stop();
    // What is damaged does not become a large object.
    let path = cluster.live().into_iter().find(|path| fs::metadata(path).unwrap().len() > 1_000_000).unwrap();
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[3000] ^= 1;
    fs::write(&path, &bad).unwrap();
    run(&mut command(&cluster, &["export", "--to-large-objects"])).ends_with(1);
    assert_eq!(count(&db, "storagearea"), stored - 1);
    fs::write(&path, &good).unwrap();
    moved(&cluster, &["export", "--to-large-objects"]);
    moved(&cluster, &["export", "--to-large-objects"]);
    // What is in both places leaves the old one.
    assert_eq!(count(&db, "storagearea"), stored);
    moved(&cluster, &["import", "--from-large-objects", "--remove"]);
    assert_eq!(count(&db, "storagearea"), 0);
    moved(&cluster, &["export", "--to-large-objects"]);
    assert_eq!(count(&db, "storagearea"), stored);
    db.run("drop table orthanc_files");
    let orthanc = Orthanc::start(&official(&cluster, true));
    all_there(&orthanc, &files);
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn a_directory_of_orthanc_comes_and_goes_back() {
    let cluster = cluster();
    let db = cluster.session();
    let orthanc = Orthanc::start(&json!({}));
    let files = upload(&orthanc);
    let (url, directory) = (orthanc.url(), orthanc.files());
    let from = directory.to_str().unwrap();
    // The plugin's role has to own the tables, and nobody knows which one that is.
    let refused =
        run(&mut command(&cluster, &["import", "--from-directory", from, "--index", &url])).ends_with(1);
    assert!(refused.said.contains("a superuser cannot make their tables"), "{}", refused.said);
    drop(core(&cluster, json!({})));
    moved(&cluster, &["import", "--from-directory", from, "--index", &url]);
    moved(&cluster, &["check", "--digest", "--index", &url]);
    let stored = count(&db, "orthanc_files");
    assert_eq!(stored as usize, orthanc.files_on_disk());
    let to = cluster.dir().join("back");
    let export = ["export", "--to-directory", to.to_str().unwrap(), "--index", &url];
    moved(&cluster, &export);
    assert_eq!(bytes(&to), bytes(&directory));
    let (name, mut damaged) = bytes(&to).pop().unwrap();
    damaged[500] ^= 1;
    fs::write(to.join(&name[..2]).join(&name[2..4]).join(&name), damaged).unwrap();
    assert!(
        run(&mut command(&cluster, &export)).ends_with(1).said.contains("it is not what the index knows")
    );
    // With the plugin the same Orthanc reads them there, and deletes them there.
    let mut sections = ours(&cluster);
    sections["PostgreSQL"]["EnableIndex"] = json!(false);
    let mut both = sections.clone();
    both["Rbytea"]["ReadFrom"] = json!(from);
    db.run("truncate orthanc_files");
    let orthanc = orthanc.stop_and_restart(&both);
    all_there(&orthanc, &files);
    let more = orthanc.upload(&dicom("GONE", 9, 1));
    assert_eq!(orthanc.request("DELETE", &format!("/instances/{more}"), b"").status, 200);
    let (gone, kept) = files.split_first().unwrap();
    assert_eq!(orthanc.request("DELETE", &format!("/instances/{}", gone.0), b"").status, 200);
    assert!(orthanc.files_on_disk() < stored as usize);
    let (files, stored) = (kept.to_vec(), orthanc.files_on_disk() as i64);
    let url = orthanc.url();
    // With its files moved, it goes on without that.
    moved(&cluster, &["import", "--from-directory", from, "--index", &url, "--remove"]);
    let orthanc = orthanc.stop_and_restart(&sections);
    all_there(&orthanc, &files);

    // What nobody knows, what is damaged, and what is gone.
    let url = orthanc.url();
    db.run("insert into orthanc_files (uuid, type, content) values (gen_random_uuid(), 1, 'unknown'), (gen_random_uuid(), 1, 'old');
            update orthanc_files set stored = now() - interval '2 days' where content = 'old'");
    let orphans = ["orphans", "--index", &url];
    let found = run(&mut command(&cluster, &orphans)).ends_with(2);
    assert_eq!(
        found.text().lines().count(),
        1,
        "the other one may be of an upload that goes on: {}",
        found.text()
    );
    let deleted = run(&mut command(&cluster, &[&orphans[..], &["--delete"]].concat())).ends_with(0);
    assert_eq!(deleted.text(), found.text());
    assert_eq!(count(&db, "orthanc_files"), stored + 1);
    let all = [&orphans[..], &["--older-than", "0", "--delete"]].concat();
    moved(&cluster, &all);
    assert_eq!(count(&db, "orthanc_files"), stored);
    // An index of another Orthanc knows none of them, and what is no index says so.
    let stranger = Orthanc::start(&json!({}));
    let strange = stranger.url();
    let refused =
        run(&mut command(&cluster, &["orphans", "--index", &strange, "--older-than", "0", "--delete"]))
            .ends_with(1);
    assert!(refused.said.contains("Nothing was deleted"), "{}", refused.said);
    for arguments in [["check", "--index"], ["orphans", "--index"]] {
        let nowhere = format!("{strange}/app");
        let no_index =
            run(&mut command(&cluster, &[&arguments[..], &[nowhere.as_str()]].concat())).ends_with(1);
        assert!(no_index.said.contains("is it Orthanc's REST interface?"), "{}", no_index.said);
    }
    assert_eq!(count(&db, "orthanc_files"), stored);
    all_there(&orthanc, &files);
    for path in cluster.live().iter().filter(|path| fs::metadata(path).unwrap().len() > 1_000_000) {
        let mut damaged = fs::read(path).unwrap();
        damaged[1000] ^= 1;
        fs::write(path, damaged).unwrap();
    }
    db.run("delete from orthanc_files where ctid = (select ctid from orthanc_files where len(content) < 100000 limit 1)");
    let check = run(&mut command(&cluster, &["check", "--digest", "--index", &url])).ends_with(2);
    assert_eq!(check.text().lines().count(), 2, "{}", check.text());
    assert!(check.text().contains("missing"), "{}", check.text());
}

#[test]
#[ignore = "takes the package orthanc: make orthanc-test"]
fn code_of_other_owners_is_not_run() {
    let cluster = cluster();
    let orthanc = Orthanc::start(&ours(&cluster));
    upload(&orthanc);
    let db = cluster.session();
    db.run("create role other; create schema theirs authorization other; create extension if not exists plpgsql;
            create function theirs.run() returns bytea language plpgsql as $$ begin raise 'code was run'; end $$;
            create view theirs.attachedfiles as select 1::bigint as id, 1 as filetype, 'x' as uuid, 1::bigint as compressedsize, encode(theirs.run(), 'hex') as compressedhash;
            create view theirs.storagearea as select gen_random_uuid()::text as uuid, 1 as type, 1::oid as content from theirs.run();
            alter view theirs.attachedfiles owner to other; alter view theirs.storagearea owner to other");
    for arguments in [
        &["check", "--index-schema", "theirs"][..],
        &["import", "--from-large-objects", "--old-schema", "theirs"],
    ] {
        let said = run(&mut command(&cluster, arguments)).ends_with(1).said;
        assert!(said.contains("is not a table"), "{said}");
    }
    db.run("alter table attachedfiles owner to other");
    let said = run(&mut command(&cluster, &["check"])).ends_with(1).said;
    assert!(
        said.contains("table public.attachedfiles is of the role \"other\"")
            || said.contains("table attachedfiles is of the role"),
        "{said}"
    );
    let (status, log) =
        Orthanc::refuses(&configuration(&cluster, json!({ "Schema": "theirs", "ReadFrom": "LargeObjects" })));
    assert!(!status.success() && log.contains("is not a table"), "{log}");
}

/// The bytes of all files below a directory, sorted by name.
fn bytes(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            all.extend(bytes(&path));
        } else {
            all.push((path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}
