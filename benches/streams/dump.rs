//! Dumps by reference: time and space go by rows, and not by bytes.

use std::fs;
use std::path::Path;

use crate::common::cluster::Cluster;
use crate::{Arguments, seconds, settle};

/// Many payloads, dumped, restored into a second cluster, and compared there. No file is opened, so small ones show what large ones would.
pub fn run(arguments: &Arguments) {
    let Arguments { count, payload, .. } = *arguments;
    let source = Cluster::with_extension_and(&["max_wal_size = '32GB'", "rbytea.wal_payload_limit = 0"]);
    let db = source.session();
    db.run("create table t (n int primary key, c rbytea)");
    let filled = seconds(|| {
        // Many commits, so that no directory has too many entries.
        for from in (1..=count).step_by(10_000) {
            let to = (from + 9_999).min(count);
            db.run(&format!(
                "insert into t select n, int8send(n) || decode(repeat('00', {payload} - 8), 'hex') from generate_series({from}, {to}) n"
            ));
        }
    });
    eprintln!("filled in {filled:.0} s");
    settle(&source);
    let file = source.dir().join("dump");
    let dumped = seconds(|| {
        let mut command = source.client_command(source.tool("pg_dump"));
        command.env("PGOPTIONS", "-c rbytea.dump_references=on").args(["-Fc", "-f"]).arg(&file);
        assert!(command.status().unwrap().success());
    });
    let target = Cluster::running_with(&["max_wal_size = '32GB'", "rbytea.wal_payload_limit = 0"]);
    let database = source.store().join(db.database().to_string());
    let restored = seconds(|| {
        let mut command = target.client_command(target.tool("pg_restore"));
        let options = format!(
            "-c rbytea.restore_references=on -c rbytea.reference_directory={}",
            database.display().to_string().replace(' ', "\\ ")
        );
        command.env("PGOPTIONS", options).args(["-d", "postgres", "-j", "2"]).arg(&file);
        assert!(command.status().unwrap().success());
    });
    let there = target.session();
    let checked = seconds(|| {
        assert_eq!(there.text("select count(*) from rbytea_check(digest => true)"), "0");
    });
    assert_eq!(there.one::<i64>("select count(*) from t", &[]), count as i64);
    println!("| dump by reference of {count} payloads of {payload} bytes | |");
    println!("|---|--:|");
    println!("| pg_dump -Fc, s | {dumped:.1} |");
    println!("| size of the dump, bytes a row | {:.0} |", len(&file) as f64 / count as f64);
    println!("| pg_restore -j 2 into a second cluster, s | {restored:.1} |");
    println!("| rbytea_check(digest => true) there, s | {checked:.1} |\n");
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}
