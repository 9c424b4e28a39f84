//! The most private memory that a backend takes for one statement, for each size.

use std::fs;

use crate::arguments::Arguments;
use crate::contestant::{Contestant, Kind, Payload};
use crate::report::{Cell, Memory};

/// PostgreSQL plans a prepared statement anew for its first five executions, and each plan has a copy of the parameter.
const PLANNED_ANEW: usize = 5;

/// What a backend that does nothing else takes for each of these.
pub fn measure(arguments: &Arguments) -> Vec<Memory> {
    let mut figures = Vec::new();
    for &size in &arguments.sizes {
        let cell = Cell { size, rows: 1, clients: 1, compressible: false };
        for kind in [Kind::Bytea, Kind::LargeObject, Kind::Rbytea, Kind::Encrypted] {
            if !arguments.wants(kind) {
                continue;
            }
            eprintln!("memory: {} of {size}", kind.name());
            let cluster = crate::cluster();
            let mut contestant = Contestant::new(kind, 0, cell, &cluster);
            let mut payload = Payload::new(cell, 0);
            let mut peak = |what: &str, work: &mut dyn FnMut(&mut Contestant, &mut Payload)| {
                let pid = contestant.pid();
                fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
                work(&mut contestant, &mut payload);
                figures.push(Memory { kind, size, what: what.into(), bytes: private_peak(pid) });
            };
            let mut id = 0;
            peak("write, planned", &mut |contestant, payload| {
                for _ in 0..PLANNED_ANEW {
                    id = contestant.commit(1, payload)[0];
                }
            });
            peak("write", &mut |contestant, payload| {
                for _ in 0..3 {
                    id = contestant.commit(1, payload)[0];
                }
            });
            peak("read", &mut |contestant, payload| contestant.read(id, payload));
            if matches!(kind, Kind::Rbytea | Kind::Encrypted) {
                for function in ["md5sum(c)", "sha256sum(c)", "substring(c, 1000, 1000)", "length(c)"] {
                    peak(function, &mut |contestant, _| {
                        contestant.run(&format!(
                            "select {function} from {}",
                            if kind == Kind::Rbytea { "files" } else { "encrypted" }
                        ))
                    });
                }
            }
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
