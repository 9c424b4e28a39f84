//! Where the server tests may take things from: a subject of tests/server uses its own folder, `crate::support` and
//! `crate::evidence`, never another subject; `support` uses no subject; and a module with tests is used by no other one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module below the crate's root: `["purge", "horizons"]`.
type Module = Vec<String>;

/// The modules of tests/server with their sources.
fn modules() -> BTreeMap<Module, String> {
    let mut modules = BTreeMap::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server"), &[], &mut modules);
    assert!(modules.len() > 100, "these are not all: {:?}", modules.keys());
    modules
}

fn collect(dir: &Path, parent: &[String], modules: &mut BTreeMap<Module, String>) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let module = if matches!(name, "mod" | "main") { parent.to_owned() } else { below(parent, name) };
        if path.is_dir() {
            collect(&path, &module, modules);
        } else {
            modules.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

fn below(parent: &[String], name: &str) -> Module {
    parent.iter().cloned().chain([name.to_owned()]).collect()
}

/// What the source of a module names by `crate::` or `super::`, from the crate's root on.
fn used(module: &[String], source: &str) -> BTreeSet<Module> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    for (at, root) in code.match_indices("crate::") {
        paths(&code[at + root.len()..], &[], &mut used);
    }
    for (at, _) in code.match_indices("super::").filter(|(at, _)| !code[..*at].ends_with("super::")) {
        let ups = code[at..].split("::").take_while(|part| *part == "super").count();
        let parent = &module[..module.len().saturating_sub(ups)];
        paths(&code[at + ups * "super::".len()..], parent, &mut used);
    }
    used
}

/// The paths that a text begins with, several if it is a group in braces; how long they are.
fn paths(text: &str, parent: &[String], found: &mut BTreeSet<Module>) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if text.starts_with('{') {
        let mut at = 1;
        while let Some(next) = text[at..].find(|c| is_word(c) || c == '}') {
            at += next;
            if text[at..].starts_with('}') {
                return at + 1;
            }
            at += paths(&text[at..], parent, found);
        }
        return text.len();
    }
    let len = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let path = if len == 0 { parent.to_owned() } else { below(parent, &text[..len]) };
    match text[len..].strip_prefix("::") {
        Some(rest) if len > 0 => len + 2 + paths(rest, &path, found),
        _ => {
            found.insert(path);
            len
        }
    }
}

/// Why a module may not use what it uses.
fn objections(modules: &BTreeMap<Module, String>) -> Vec<String> {
    let mut objections = Vec::new();
    for (module, source) in modules.iter().filter(|(module, _)| !module.is_empty()) {
        for path in used(module, source) {
            let what = format!("{} uses {}", module.join("::"), path.join("::"));
            let room = path.first().map_or("", String::as_str);
            if room != module[0] && !matches!(room, "support" | "evidence") {
                objections.push(format!("{what}: another subject's"));
            }
            let owner =
                (1..=path.len()).rev().map(|len| &path[..len]).find(|owner| modules.contains_key(*owner));
            let related = |owner: &[String]| module.starts_with(owner) || owner.starts_with(module);
            if owner.is_some_and(|owner| !related(owner) && modules[owner].contains("#[test]")) {
                objections.push(format!("{what}: a module with tests"));
            }
        }
    }
    objections
}

#[test]
fn no_subject_uses_another_one_and_no_test_is_used() {
    let objections = objections(&modules());
    assert!(objections.is_empty(), "{}", objections.join("\n"));
}

#[test]
fn every_folder_says_what_it_is_for() {
    let modules = modules();
    for (module, _) in modules.iter().filter(|(module, _)| module.len() > 1) {
        let folder = &module[..module.len() - 1];
        let head = modules.get(folder).map_or("", String::as_str);
        assert!(head.starts_with("//! "), "{} does not say what it is for", folder.join("/"));
    }
}

#[test]
fn what_is_not_allowed_is_found() {
    let found = |module: &str, source: &str| {
        let path = |name: &str| name.split("::").map(str::to_owned).collect::<Module>();
        let others = [("a", ""), ("a::b", "#[test]"), ("a::c", ""), ("d::e", ""), ("support::f", "")];
        let mut modules: BTreeMap<Module, String> =
            others.into_iter().map(|(name, source)| (path(name), source.to_owned())).collect();
        modules.insert(path(module), source.to_owned());
        objections(&modules).len()
    };
    assert_eq!(found("a::x", "use crate::support::{f::{g, h}, i};\nuse super::c::d;\nuse crate::a::c;"), 0);
    assert_eq!(found("a::x", "use crate::evidence::proves;\n// crate::d::e\n//! crate::d::e"), 0);
    assert_eq!(found("a::x", "use crate::d::e::f;"), 1, "another subject");
    assert_eq!(found("a::x", "fn f() {\n    crate::d::e::f::<u8>();\n}"), 1, "another subject, in the code");
    assert_eq!(
        found("a::x", "use crate::{evidence,\n    d::{\n    e::f}};"),
        1,
        "another subject, in a group"
    );
    assert_eq!(found("a::x::y", "use super::super::super::d::e::f;"), 1, "another subject, by super");
    assert_eq!(found("support::x", "use crate::a::c;"), 1, "a subject, from support");
    assert_eq!(found("a::x", "use super::b::helper;"), 1, "a module with tests");
    assert_eq!(found("a::x", "use super::{c, b::helper};"), 1, "a module with tests, in a group");
    assert_eq!(found("a::b", "#[test]\nfn f() { super::c::g() }"), 0);
}
