//! Makes the table of docs/EVIDENCE.md: `evidence <directory> <version of PostgreSQL>`. The directory has what the tests have reported
//! (crates/evidence) and, in files that end with `.log`, the output of the test runs: of modules that do not report by
//! themselves, each test that has passed is a case. Ends with an error if something was lost or a test has failed, or if
//! nothing is known of a promise.

use rbytea_evidence::{Found, Promise};
use std::collections::BTreeMap;
use std::{env, fs};

/// Modules whose tests are cases of a promise, by binary and the beginning of the module's name.
const MODULES: &[(Promise, &str, &[&str])] = &[
    (Promise::Durable, "store", &["crash", "durability", "clone_crash", "dropped_crash", "pending"]),
    (Promise::Durable, "server", &["transactions"]),
    (Promise::Pure, "server", &["values::pure"]),
    (Promise::Immutable, "store", &["payloads"]),
    (Promise::OnlyGarbage, "protocol", &[""]),
    (
        Promise::OnlyGarbage,
        "server",
        &["vacuum", "purge", "concurrency", "externalising::references_in_ddl", "model::random_sessions"],
    ),
    (Promise::TrashIsReadable, "store", &["trash", "races"]),
    (Promise::Collected, "server", &["background", "model::soak"]),
    (Promise::ErrorsLoseNothing, "store", &["faults", "encrypted_failures", "listing", "registry"]),
    (Promise::ErrorsLoseNothing, "server", &["faults"]),
    (Promise::OneOwner, "store", &["owner"]),
    (Promise::OneOwner, "server", &["databases::owner"]),
    (Promise::DamageIsNoticed, "store", &["encrypted_damage", "inspect"]),
    (Promise::DamageIsNoticed, "server", &["encryption::damage"]),
    (Promise::BadInput, "store", &["layout", "planted", "key_file"]),
    (Promise::BadInput, "value", &["header"]),
    (Promise::BadInput, "server", &["bad_input", "rights::ordinary_users"]),
    (Promise::LikeBytea, "server", &["like_bytea", "installation::regress"]),
    (Promise::Backups, "server", &["backup"]),
    (Promise::Replication, "server", &["replication", "encryption::replication"]),
    (Promise::Databases, "store", &["clone", "copy", "dropped", "databases"]),
    (Promise::Databases, "server", &["databases"]),
];

/// What stands above the table.
const HEAD: &str = "# Evidence

What the tests have shown of each guarantee of [GUARANTEES.md](GUARANTEES.md). Written by `make evidence`, not by hand.

A case is whatever the test judges: a fault, a crash, a SIGKILL, a planted damage, an input, a statement; of a module whose tests do
not count (`::*`), a test that has passed. *Lost* are acknowledged payloads that do not read back as they were stored, *dangling* references
whose file is nowhere, *leaked* files that no row needs and that the vacuum leaves behind.";

/// What one test has reported, or the tests of a module.
#[derive(serde::Deserialize)]
struct Report {
    promise: String,
    binary: String,
    test: String,
    cases: u64,
    lost: u64,
    dangling: u64,
    leaked: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(directory), Some(version)) = (arguments.next(), arguments.next()) else {
        return Err("usage: evidence <directory> <version>".into());
    };
    let (mut reports, mut logs) = (Vec::new(), String::new());
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        if path.extension().is_some_and(|ending| ending == "log") {
            logs.push_str(&text);
        } else {
            reports.extend(text.lines().map(serde_json::from_str::<Report>).collect::<Result<Vec<_>, _>>()?);
        }
    }
    let passed = passed(&logs)?;
    if let Some((binary, module)) = missing(&passed) {
        return Err(format!("no test of {binary} {module} has passed: has it another name now?").into());
    }
    let modules = modules(&passed, &reports);
    reports.extend(modules);
    if let Some(unknown) = reports.iter().find(|report| !names().any(|name| name == report.promise)) {
        return Err(format!("no promise is called {}", unknown.promise).into());
    }
    print(&version, &reports)
}

fn names() -> impl Iterator<Item = String> {
    Promise::ALL.into_iter().map(|(promise, _)| format!("{promise:?}"))
}

/// The tests that have passed: binary and name.
fn passed(logs: &str) -> Result<Vec<(String, String)>, String> {
    let (mut binary, mut passed) = (String::new(), Vec::new());
    for line in logs.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["Running", source, ..] => {
                binary = source.trim_start_matches("tests/").trim_end_matches("/main.rs").to_owned();
            }
            ["test", name, "...", "ok"] => passed.push((binary.clone(), name.to_owned())),
            ["test", name, "...", "FAILED"] => return Err(format!("{binary} {name} has failed")),
            _ => {}
        }
    }
    Ok(passed)
}

/// A module of the list that no test belongs to.
fn missing(passed: &[(String, String)]) -> Option<(&'static str, &'static str)> {
    let all = MODULES.iter().flat_map(|(_, binary, modules)| modules.iter().map(|module| (*binary, *module)));
    all.into_iter()
        .find(|(binary, module)| !passed.iter().any(|(of, test)| of == binary && test.starts_with(module)))
}

/// A line for each module whose tests have not reported by themselves.
fn modules(passed: &[(String, String)], reports: &[Report]) -> Vec<Report> {
    let reported = |binary: &str, test: &str| {
        reports.iter().any(|report| report.binary == binary && report.test == test)
    };
    let mut counts: BTreeMap<(String, &String, String), u64> = BTreeMap::new();
    for (binary, test) in passed.iter().filter(|(binary, test)| !reported(binary, test)) {
        for (promise, _, _) in MODULES
            .iter()
            .filter(|(_, of, modules)| of == binary && modules.iter().any(|module| test.starts_with(module)))
        {
            let module = test.rsplit_once("::").map_or(test.as_str(), |(module, _)| module);
            *counts.entry((format!("{promise:?}"), binary, module.to_owned())).or_default() += 1;
        }
    }
    let line = |((promise, binary, module), cases): ((String, &String, String), u64)| Report {
        promise,
        binary: binary.clone(),
        test: format!("{module}::*"),
        cases,
        lost: 0,
        dangling: 0,
        leaked: 0,
    };
    counts.into_iter().map(line).collect()
}

fn print(version: &str, reports: &[Report]) -> Result<(), Box<dyn std::error::Error>> {
    println!("{HEAD}\n\nWith {version}.\n");
    println!("| promise | test | cases | lost | dangling | leaked |\n|---|---|---:|---:|---:|---:|");
    let mut kept = true;
    for (promise, text) in Promise::ALL {
        let name = format!("{promise:?}");
        let mut of_promise: Vec<_> = reports.iter().filter(|report| report.promise == name).collect();
        of_promise.sort_by_key(|report| (&report.binary, &report.test));
        let sum = of_promise.iter().fold(Found::default(), |sum, report| Found {
            cases: sum.cases + report.cases,
            lost: sum.lost + report.lost,
            dangling: sum.dangling + report.dangling,
            leaked: sum.leaked + report.leaked,
        });
        kept &= sum.cases > 0 && sum.lost + sum.dangling + sum.leaked == 0;
        row(&format!("**{text}**"), "", sum);
        for Report { binary, test, cases, lost, dangling, leaked, .. } in of_promise {
            let found = Found { cases: *cases, lost: *lost, dangling: *dangling, leaked: *leaked };
            row("", &format!("`{binary}` `{test}`"), found);
        }
    }
    if kept { Ok(()) } else { Err("not every promise is shown to be kept".into()) }
}

fn row(promise: &str, test: &str, found: Found) {
    let Found { cases, lost, dangling, leaked } = found;
    println!("| {promise} | {test} | {cases} | {lost} | {dangling} | {leaked} |");
}
