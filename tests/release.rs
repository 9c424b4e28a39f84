//! What a release says of itself in several files agrees, and META.json is what PGXN takes (PGXN Meta Spec 1.0.0).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// As Cargo.toml has it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn meta() -> Value {
    serde_json::from_str(&read("META.json")).expect("META.json is JSON")
}

/// What stands between two texts in the first line that has both.
fn between(file: &str, before: &str, after: &str) -> String {
    let text = read(file);
    let found = text.lines().find_map(|line| line.split_once(before)?.1.split_once(after));
    found.unwrap_or_else(|| panic!("{file} has no line with {before}…{after}")).0.to_owned()
}

#[test]
fn every_file_has_the_same_version() {
    assert_eq!(between("rbytea.control", "default_version = '", "'"), VERSION);
    assert_eq!(meta()["version"], VERSION);
    assert_eq!(meta()["provides"]["rbytea"]["version"], VERSION);
    assert_eq!(between("debian/changelog", "rbytea (", "-"), VERSION);
    assert_eq!(between("CHANGELOG.md", "## ", " "), VERSION);
    assert_eq!(between("debian/rbytea_check.1", "\"rbytea ", "\""), VERSION);
    assert_eq!(between("debian/rbytea.1", "\"rbytea ", "\""), VERSION);
    assert_eq!(meta()["provides"]["rbytea"]["file"], format!("sql/rbytea--{VERSION}.sql"));
}

/// Whoever has the first release can install it and go on from there.
#[test]
fn the_first_release_is_there() {
    for file in ["sql/rbytea--0.1.0.sql", "crates/store/tests/golden/0.1.0/values"] {
        assert!(path(file).is_file(), "{file} is gone");
    }
}

#[test]
fn meta_json_is_what_pgxn_takes() {
    let meta = meta();
    for key in ["name", "version", "abstract", "maintainer"] {
        let text = meta[key].as_str().unwrap_or_else(|| panic!("{key} is required, a text"));
        assert!(!text.is_empty(), "{key}");
    }
    assert_eq!(meta["name"], "rbytea");
    assert_eq!(meta["meta-spec"]["version"], "1.0.0");
    assert!(meta["meta-spec"]["url"].is_string());
    assert!(matches!(meta["release_status"].as_str(), Some("stable" | "testing" | "unstable")));
    // Cargo.toml's, by the names that the specification has for them.
    assert_eq!(env!("CARGO_PKG_LICENSE"), "Apache-2.0 OR MIT");
    assert_eq!(meta["license"], serde_json::json!(["apache_2_0", "mit"]));
    assert_eq!(meta["abstract"], env!("CARGO_PKG_DESCRIPTION"));

    let provided = meta["provides"].as_object().expect("provides is required, an object");
    assert_eq!(provided.keys().collect::<Vec<_>>(), ["rbytea"], "extensions with a control file");
    for extension in provided.values() {
        for key in ["file", "docfile"] {
            let file = extension[key].as_str().unwrap_or_else(|| panic!("{key} is a path"));
            assert!(path(file).is_file(), "{file} is not there");
        }
    }
    let required = meta["prereqs"]["runtime"]["requires"]["PostgreSQL"].as_str().unwrap();
    let least: u32 = required.split('.').next().unwrap().parse().unwrap();
    let features = read("Cargo.toml");
    let majors =
        features.lines().filter_map(|line| line.strip_prefix("pg")?.split_once(" = ")?.0.parse().ok());
    assert_eq!(majors.min(), Some(least), "the oldest major that there is a feature for");
}
