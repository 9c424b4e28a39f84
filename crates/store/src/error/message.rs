//! Parts of messages.

use std::io;
use std::path::Path;

use super::key_file::KeyFileProblem;

/// The message about a key file, in PostgreSQL's words for the server's private key and, with a line, for its
/// configuration files.
pub(super) fn key_file_message(
    path: &Path,
    line: Option<usize>,
    problem: KeyFileProblem,
    source: Option<&io::Error>,
) -> String {
    let path = path.display();
    match (problem, source, line) {
        (KeyFileProblem::Io(op), Some(source), _) => {
            format!("could not {op} key file \"{path}\": {}", reason(source))
        }
        (KeyFileProblem::Io(op), None, _) => format!("could not {op} key file \"{path}\""),
        (problem, _, Some(line)) => format!("invalid entry in key file \"{path}\" line {line}: {problem}"),
        (problem, _, None) => format!("key file \"{path}\" {problem}"),
    }
}

/// The end of the message about a missing key: which file does not have it.
pub(super) fn missing_from(key_file: &Path) -> String {
    if key_file.as_os_str().is_empty() {
        "not available: there is no key file".into()
    } else {
        format!("not in key file \"{}\"", key_file.display())
    }
}

/// The text of an error without the "(os error N)" that std appends and PostgreSQL does not.
pub(super) fn reason(source: &io::Error) -> String {
    let text = source.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
