//! The password file (libpq, "The Password File"): lines `host:port:database:user:password`, where `*` stands for anything and
//! a backslash keeps what comes after it from meaning something. One that others may read is not used.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a password is looked for by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    pub host: &'a str,
    pub port: u16,
    pub database: &'a str,
    pub user: &'a str,
}

/// The text of a password file; none, and why, if it must not be used. A file that does not
/// exist is no reason to warn, nor is the directory of another user, whose name `su` has left in HOME.
pub(crate) fn read(path: &Path) -> (Option<String>, Option<String>) {
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            return (None, None);
        }
        Err(error) => return (None, Some(format!("password file \"{}\": {error}", path.display()))),
    };
    if !about.is_file() {
        return (None, Some(format!("password file \"{}\" is not a plain file", path.display())));
    }
    if about.mode() & 0o077 != 0 {
        let why = format!(
            "password file \"{}\" has group or world access; permissions should be u=rw (0600) or less",
            path.display()
        );
        return (None, Some(why));
    }
    match fs::read_to_string(path) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(format!("password file \"{}\": {error}", path.display()))),
    }
}

/// The password of the first line that fits.
pub(crate) fn find(text: &str, key: Key<'_>) -> Option<String> {
    let port = key.port.to_string();
    let wanted = [key.host, &port, key.database, key.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let rest = wanted.iter().try_fold(line, |rest, wanted| after_field(rest, wanted))?;
        let mut password = String::new();
        let mut chars = rest.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => password.extend(chars.next()),
                ':' => break,
                c => password.push(c),
            }
        }
        Some(password).filter(|password| !password.is_empty())
    })
}

/// What comes after the line's first field, if that is `*` or says what is wanted.
fn after_field<'a>(line: &'a str, wanted: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let mut field = String::new();
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => field.push(chars.next()?.1),
            ':' => return (field == wanted).then(|| &line[at + 1..]),
            c => field.push(c),
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const KEY: Key<'_> = Key { host: "db1", port: 5432, database: "archive", user: "lena" };

    #[test]
    fn the_first_line_that_fits_counts() {
        assert_eq!(find("db1:5432:archive:lena:one\n*:*:*:*:two\n", KEY).unwrap(), "one");
        assert_eq!(find("db2:*:*:*:one\n#db1:5432:archive:lena:x\n*:*:*:*:two", KEY).unwrap(), "two");
        assert_eq!(find("db1:5433:*:*:x\ndb1:*:archiv:*:x\n\nnonsense\n*:*:*:len:x\n", KEY), None);
        assert_eq!(find("*:*:*:*:\n", KEY), None);
    }

    #[test]
    fn backslashes_keep_colons_and_backslashes() {
        let key = Key { host: "::1", database: r"a\b", user: "*", ..KEY };
        assert_eq!(find(r"\:\:1:5432:a\\b:\*:p\:w\\d", key).unwrap(), r"p:w\d");
        assert_eq!(find("db1:5432:archive:lena:word:rest", KEY).unwrap(), "word");
    }

    #[test]
    fn files_that_others_may_read_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        assert_eq!(read(&path), (None, None));
        fs::write(&path, "*:*:*:*:secret\n").unwrap();
        for (mode, used) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let (text, warning) = read(&path);
            assert_eq!((text.is_some(), warning.is_none()), (used, used), "{mode:o}");
        }
        assert!(read(dir.path()).1.unwrap().contains("not a plain file"));
    }
}
