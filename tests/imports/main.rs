//! The layout of the sources: a folder of src/ uses only those before it, the store's backends and what stands above them do
//! not use each other, no two files do, and lib.rs stays short. Reads the sources; takes neither a server nor the library.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod paths;

use paths::{Import, Sources, imports, sources};
use std::collections::{BTreeMap, BTreeSet};

/// The folders of src/. Each may use itself and those before it.
const FOLDERS: [&str; 14] = [
    "pg",
    "wal",
    "value",
    "session",
    "recovery",
    "write",
    "mark",
    "ddl",
    "vacuum",
    "check",
    "reencrypt",
    "stream",
    "sql",
    "wire",
];

/// Imports that are not looked at where circles are looked for: the file, the file that it imports, and why.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// lib.rs has fewer lines.
const LONGEST_LIB: usize = 80;

#[test]
fn folders_use_only_those_before_them() {
    let offences = upward(&sources("src"));
    assert!(offences.is_empty(), "imports of later folders:\n{}", offences.join("\n"));
}

#[test]
fn no_files_use_each_other() {
    for root in ["src", "crates/store/src", "crates/connect/src", "crates/tool/src"] {
        let offences = circles(&sources(root), if root == "src" { &EXCEPTIONS } else { &[] });
        assert!(offences.is_empty(), "circles of imports in {root}:\n{}", offences.join("\n"));
    }
}

/// Digest, encryption, padding and verification are above the seam, files below it.
#[test]
fn a_backend_and_what_stands_above_it_do_not_use_each_other() {
    const ABOVE: [&str; 6] = ["writer.rs", "reader.rs", "pending.rs", "judgement.rs", "value.rs", "crypt/"];
    let imports = imports(&sources("crates/store/src"));
    let is_above = |file: &str| ABOVE.iter().any(|above| file.starts_with(above));
    let of_backend = |file: &str| file.starts_with("file/");
    for above in ABOVE {
        assert!(imports.iter().any(|import| import.from.starts_with(above)), "where is {above}?");
    }
    let offences: Vec<_> = imports
        .iter()
        .filter(|Import { from, to, .. }| {
            is_above(from) && of_backend(to)
                || of_backend(from) && is_above(to)
                || from.starts_with("backend/") && (of_backend(to) || is_above(to))
        })
        .map(Import::to_string)
        .collect();
    assert!(offences.is_empty(), "imports through the seam of the store:\n{}", offences.join("\n"));
}

#[test]
fn lib_rs_is_short() {
    let lines = sources("src")["lib.rs"].lines().count();
    assert!(lines < LONGEST_LIB, "src/lib.rs has {lines} lines; what it does belongs to a folder");
}

/// Imports of a folder that comes later, of one that is not in the list, or of lib.rs.
fn upward(sources: &Sources) -> Vec<String> {
    let rank = |folder: &str| FOLDERS.iter().position(|known| *known == folder);
    let mut offences = Vec::new();
    for import in imports(sources) {
        let Some((folder, _)) = import.from.split_once('/') else { continue };
        let used = import.to.split_once('/').map_or("lib.rs", |(used, _)| used);
        match (rank(folder), rank(used)) {
            (Some(own), Some(used)) if used <= own => {}
            (Some(_), Some(_)) => offences.push(format!("{import}: {folder} comes before {used}")),
            _ => offences.push(format!("{import}: {folder} or {used} is not in the list of folders")),
        }
    }
    offences
}

/// Circles of imports, each once, and exceptions that there is no need for.
fn circles(sources: &Sources, exceptions: &[(&str, &str, &str)]) -> Vec<String> {
    let is_exception =
        |import: &Import| exceptions.iter().any(|(from, to, _)| (*from, *to) == (&import.from, &import.to));
    let (excepted, counted): (Vec<_>, Vec<_>) = imports(sources)
        .into_iter()
        .filter(|import| import.from != import.to)
        .partition(|import| is_exception(import));
    let mut offences: Vec<String> = exceptions
        .iter()
        .filter(|(from, to, _)| !excepted.iter().any(|import| (&*import.from, &*import.to) == (*from, *to)))
        .map(|(from, to, _)| format!("src/{from} does not import src/{to}, which is excepted"))
        .collect();
    let mut seen = BTreeSet::new();
    for import in &counted {
        if let Some(mut way) = way(&counted, &import.to, &import.from) {
            way.insert(0, import);
            let files: BTreeSet<&str> = way.iter().map(|import| &*import.from).collect();
            if seen.insert(files) {
                let steps: Vec<_> = way.iter().map(|import| import.to_string()).collect();
                offences.push(steps.join(",\n    "));
            }
        }
    }
    offences
}

/// The shortest way of imports from a file to another.
fn way<'a>(imports: &'a [Import], from: &str, to: &str) -> Option<Vec<&'a Import>> {
    let mut reached: BTreeMap<&str, Vec<&Import>> = BTreeMap::from([(from, Vec::new())]);
    let mut next = vec![from];
    while !next.is_empty() {
        let mut found = Vec::new();
        for import in imports.iter().filter(|import| next.contains(&&*import.from)) {
            if !reached.contains_key(&*import.to) {
                let mut way = reached[&*import.from].clone();
                way.push(import);
                if import.to == to {
                    return Some(way);
                }
                reached.insert(&import.to, way);
                found.push(&*import.to);
            }
        }
        next = found;
    }
    None
}

fn made_up(files: &[(&str, &str)]) -> Sources {
    files.iter().map(|(file, source)| (file.to_string(), source.to_string())).collect()
}

#[test]
fn imports_of_a_later_folder_are_found_wherever_they_are() {
    let sources = made_up(&[
        ("lib.rs", "mod pg; mod value;\nuse crate::value::walk::Walker;"),
        ("pg/mod.rs", "pub mod a;"),
        (
            "pg/a.rs",
            "// crate::value::comment\nuse crate::{pg::b, value::{walk::{self as w, Walker}}};\nfn f(c: char) -> bool {\n    c == '\"'\n        && crate::value::walk::f(\"crate::value::text\", r#\"\"crate::value::raw\"#) }\nuse crate::new::X;\n",
        ),
        ("value/mod.rs", "pub mod walk;"),
        ("value/walk.rs", "use crate::pg::a::f;"),
        ("new/mod.rs", ""),
    ]);
    let offences = upward(&sources);
    let expected = [
        ("src/pg/a.rs:2 imports crate::pg::b of src/pg/mod.rs", false),
        ("src/pg/a.rs:2 imports crate::value::walk of src/value/walk.rs: pg comes before value", true),
        (
            "src/pg/a.rs:2 imports crate::value::walk::Walker of src/value/walk.rs: pg comes before value",
            true,
        ),
        ("src/pg/a.rs:5 imports crate::value::walk::f of src/value/walk.rs: pg comes before value", true),
        (
            "src/pg/a.rs:6 imports crate::new::X of src/new/mod.rs: pg or new is not in the list of folders",
            true,
        ),
    ];
    for (offence, found) in expected {
        assert_eq!(offences.iter().any(|line| line.starts_with(offence)), found, "{offence}: {offences:#?}");
    }
    assert_eq!(offences.len(), 4, "{offences:#?}");
}

#[test]
fn circles_go_through_items_of_a_mod_rs_and_not_through_its_name() {
    let passing = made_up(&[
        ("pg/mod.rs", "mod a; mod b;\npub use a::A; use b::B;"),
        ("pg/a.rs", "use crate::pg::b::B;"),
        ("pg/b.rs", "use super::c::C;"),
        ("pg/c.rs", ""),
    ]);
    assert_eq!(circles(&passing, &[]), Vec::<String>::new());
    let mut through = passing.clone();
    through.insert("pg/c.rs".to_string(), "fn c() { super::item() }".to_string());
    let found = circles(&through, &[]);
    assert!(
        found.iter().any(|circle| circle.contains("src/pg/c.rs:1 imports crate::pg::item of src/pg/mod.rs")),
        "{found:#?}"
    );
    assert_eq!(circles(&through, &[("pg/c.rs", "pg/mod.rs", "a test")]), Vec::<String>::new());
    assert_eq!(
        circles(&passing, &[("pg/c.rs", "pg/mod.rs", "a test")]).len(),
        1,
        "an exception that nothing needs"
    );
}
