//! The most private memory that a backend takes for one statement, for each size.

use std::fs;

use crate::arguments::Arguments;
use crate::cell::{Cell, Kind};
use crate::common::Retired;
use crate::contestant::{Contestant, Payload};
use crate::report::Memory;

/// PostgreSQL plans a prepared statement anew for its first five executions, and each plan has a copy of the parameter.
const PLANNED_ANEW: usize = 5;

/// What a backend that does nothing else takes for each of these.
pub fn measure(arguments: &Arguments, retired: &mut Retired) -> Vec<Memory> {
    let mut figures = Vec::new();
    for &size in &arguments.sizes {
        let cell = Cell { size, rows: 1, clients: 1, compressible: false };
        for kind in [Kind::Bytea, Kind::LargeObject, Kind::Rbytea, Kind::Encrypted] {
            if !arguments.wants(kind) {
                continue;
            }
            eprintln!("memory: {} of {size}", kind.name());
            let cluster = crate::cluster();
            let mut payload = Payload::new(cell, 0);
            let mut clients = 0;
            let mut most =
                |what: &str, before: usize, work: &mut dyn FnMut(&mut Contestant, &mut Payload)| {
                    // Memory that was freed may stay with the process; so each has a new one.
                    let mut contestant = Contestant::new(kind, clients, cell, &cluster);
                    clients += 1;
                    for _ in 0..before {
                        contestant.commit(1, &mut payload);
                    }
                    let pid = contestant.pid();
                    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
                    work(&mut contestant, &mut payload);
                    figures.push(Memory { kind, size, what: what.into(), bytes: private_peak(pid) });
                };
            let mut id = 0;
            most("write, planned", 0, &mut |contestant, payload| {
                for _ in 0..PLANNED_ANEW {
                    id = contestant.commit(1, payload)[0];
                }
            });
            most("write", PLANNED_ANEW + 1, &mut |contestant, payload| {
                for _ in 0..3 {
                    contestant.commit(1, payload);
                }
            });
            most("read", 0, &mut |contestant, payload| contestant.read(id, payload));
            let part = "substring(c, 1000, 1000)";
            let (table, functions) = match kind {
                Kind::Bytea => ("plain", &["md5(c)", "sha256(c)", part][..]),
                Kind::LargeObject => ("objects", &["md5(lo_get(o))", "lo_get(o, 1000, 1000)"][..]),
                Kind::Rbytea => ("files", &["md5sum(c)", "sha256sum(c)", part][..]),
                _ => ("encrypted", &["md5sum(c)", "sha256sum(c)", part][..]),
            };
            for function in functions {
                let sql = format!("select {function} from {table} where id = {id}");
                most(function, 0, &mut |contestant, _| contestant.run(&sql));
            }
            retired.add(cluster);
        }
    }
    figures
}

/// The most anonymous memory since the high-water mark was set back, in bytes: the mark, without the pages of files and of
/// shared memory, which a backend does not give back.
fn private_peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim_end_matches("kB").trim().parse().unwrap()
    };
    (field("VmHWM") - field("RssFile") - field("RssShmem")) * 1024
}
