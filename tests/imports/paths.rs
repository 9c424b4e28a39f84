//! The paths in Rust sources that lead from file to file: enough of the language for `use`, paths in expressions, comments
//! and literals.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The files below a directory by their paths from there, without the tests at their ends.
pub type Sources = BTreeMap<String, String>;

pub fn sources(root: &str) -> Sources {
    fn read(directory: &Path, prefix: &str, sources: &mut Sources) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                read(&path, &format!("{name}/"), sources);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                sources.insert(name, code.to_owned());
            }
        }
    }
    let mut sources = Sources::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(root), "", &mut sources);
    sources
}

/// A path in one file that leads to another.
pub struct Import {
    pub from: String,
    pub to: String,
    pub line: usize,
    pub path: String,
}

impl std::fmt::Display for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "src/{}:{} imports {} of src/{}", self.from, self.line, self.path, self.to)
    }
}

pub fn imports(sources: &Sources) -> Vec<Import> {
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
