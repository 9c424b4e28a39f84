//! The layout of the sources: a folder of src/ uses only those before it, the store's backends and what stands above them do
//! not use each other, no two files do, and lib.rs stays short. Reads the sources; takes neither a server nor the library.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The folders of src/. Each may use itself and those before it.
const FOLDERS: [&str; 10] =
    ["pg", "value", "session", "write", "mark", "ddl", "vacuum", "check", "reencrypt", "sql"];

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
    for root in ["src", "crates/store/src"] {
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

/// The files below a directory by their paths from there.
type Sources = BTreeMap<String, String>;

fn sources(root: &str) -> Sources {
    fn read(directory: &Path, prefix: &str, sources: &mut Sources) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                read(&path, &format!("{name}/"), sources);
            } else if name.ends_with(".rs") {
                sources.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut sources = Sources::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(root), "", &mut sources);
    sources
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

/// A path in one file that leads to another.
struct Import {
    from: String,
    to: String,
    line: usize,
    path: String,
}

impl std::fmt::Display for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "src/{}:{} imports {} of src/{}", self.from, self.line, self.path, self.to)
    }
}

fn imports(sources: &Sources) -> Vec<Import> {
    let mut imports = Vec::new();
    for (file, source) in sources {
        let module = module_of(file);
        let tokens = tokens(source);
        let mut at = 0;
        while at < tokens.len() {
            let word = &*tokens[at].1;
            let begins = tokens.get(at + 1).is_some_and(|(_, next)| next == "::")
                && at.checked_sub(1).is_none_or(|before| tokens[before].1 != "::");
            let child = |word: &str| {
                let mut path = module.clone();
                path.push(word.to_string());
                file_of(sources, &path).map(|_| path)
            };
            let start = match word {
                _ if !begins => None,
                "crate" => Some(Vec::new()),
                "self" => Some(module.clone()),
                "super" => Some(module[..module.len().saturating_sub(1)].to_vec()),
                word => child(word),
            };
            let Some(start) = start else {
                at += 1;
                continue;
            };
            at += 2;
            let mut paths = Vec::new();
            tree(&tokens, &mut at, &start, &mut paths);
            for (line, path) in paths {
                let to = target(sources, &path);
                imports.push(Import {
                    from: file.clone(),
                    to,
                    line,
                    path: format!("crate::{}", path.join("::")),
                });
            }
        }
    }
    imports
}

/// The paths of a tree like `a::{self, b::c as d}`, of which the part before `at` is known.
fn tree(
    tokens: &[(usize, String)],
    at: &mut usize,
    prefix: &[String],
    paths: &mut Vec<(usize, Vec<String>)>,
) {
    let mut path = prefix.to_vec();
    let mut line = tokens.get(at.saturating_sub(1)).map_or(0, |token| token.0);
    while let Some((here, word)) = tokens.get(*at) {
        match &**word {
            "{" => {
                *at += 1;
                while tokens.get(*at).is_some_and(|(_, word)| word != "}") {
                    tree(tokens, at, &path, paths);
                    while tokens.get(*at).is_some_and(|(_, word)| word != "," && word != "}") {
                        *at += 1;
                    }
                    if tokens.get(*at).is_some_and(|(_, word)| word == ",") {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            "super" => _ = path.pop(),
            "self" | "*" => {}
            word if is_word(word) => path.push(word.to_string()),
            _ => break,
        }
        line = *here;
        *at += 1;
        if tokens.get(*at).is_none_or(|(_, next)| next != "::") {
            break;
        }
        *at += 1;
    }
    paths.push((line, path));
}

/// The file in which the item of this path, or the module, is written.
fn target(sources: &Sources, path: &[String]) -> String {
    (0..=path.len())
        .rev()
        .find_map(|len| file_of(sources, &path[..len]))
        .unwrap_or_else(|| "lib.rs".to_string())
}

fn file_of(sources: &Sources, module: &[String]) -> Option<String> {
    let path = module.join("/");
    let files = if path.is_empty() {
        vec!["lib.rs".to_string()]
    } else {
        vec![format!("{path}.rs"), format!("{path}/mod.rs")]
    };
    files.into_iter().find(|file| sources.contains_key(file))
}

fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_string).collect() }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// Words, `::` and other characters with their lines; without comments, and without what is in quotes.
fn tokens(source: &str) -> Vec<(usize, String)> {
    let text: Vec<char> = source.chars().collect();
    let is = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| text.get(at + i) == Some(&c));
    let word = |at: usize| text.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < text.len() {
        let start = at;
        if is(at, "//") {
            while at < text.len() && text[at] != '\n' {
                at += 1;
            }
        } else if is(at, "/*") {
            let mut depth = 0;
            while at < text.len() {
                if is(at, "/*") {
                    (depth, at) = (depth + 1, at + 2);
                } else if is(at, "*/") {
                    (depth, at) = (depth - 1, at + 2);
                } else {
                    at += 1;
                }
                if depth == 0 {
                    break;
                }
            }
        } else if text[at] == '"' {
            at += 1;
            while at < text.len() && text[at] != '"' {
                at += if text[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if text[at] == '\'' {
            // A character, or a lifetime.
            at += match (text.get(at + 1), text.get(at + 2)) {
                (Some('\\'), _) => {
                    2 + text[at + 2..].iter().skip(1).position(|c| *c == '\'').unwrap_or(0) + 2
                }
                (_, Some('\'')) => 3,
                _ => 1,
            };
        } else if word(at) {
            while word(at) {
                at += 1;
            }
            let hashes = text[at.min(text.len())..].iter().take_while(|c| **c == '#').count();
            let raw = matches!(&*text[start..at].iter().collect::<String>(), "r" | "br" | "cr");
            if raw && text.get(at + hashes) == Some(&'"') {
                let end = format!("\"{}", "#".repeat(hashes));
                at += hashes + 1;
                while at < text.len() && !is(at, &end) {
                    at += 1;
                }
                at += end.len();
            } else {
                tokens.push((line, text[start..at].iter().collect()));
            }
        } else if is(at, "::") {
            at += 2;
            tokens.push((line, "::".to_string()));
        } else {
            at += 1;
            if !text[start].is_whitespace() {
                tokens.push((line, text[start].to_string()));
            }
        }
        line += text[start..at.min(text.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
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
