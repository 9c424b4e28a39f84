//! Service files (libpq, "The Connection Service File"): sections of `keyword=value` lines, in `PGSERVICEFILE` or
//! `~/.pg_service.conf`, and then in `pg_service.conf` of `PGSYSCONFDIR`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::error::Error;
use crate::parameters::Parameters;

/// Where Debian's libpq looks for `pg_service.conf`.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// Adds what a service says to what has no value yet.
pub(crate) fn add(service: &str, environment: &Environment, to: &mut Parameters) -> Result<(), Error> {
    let own = environment.get("PGSERVICEFILE").map(PathBuf::from);
    let own_is_named = own.is_some();
    let system =
        Path::new(environment.get("PGSYSCONFDIR").unwrap_or(SYSTEM_DIRECTORY)).join("pg_service.conf");
    let files = [own.or_else(|| environment.in_home(".pg_service.conf")), Some(system)];
    for (which, path) in files.into_iter().enumerate() {
        let Some(path) = path else { continue };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && !(which == 0 && own_is_named) => continue,
            Err(source) => return Err(Error::File { path, source }),
        };
        if add_section(service, &text, &path, to)? {
            return Ok(());
        }
    }
    Err(Error::NoService(service.to_owned()))
}

/// Whether the file has the section.
fn add_section(service: &str, text: &str, path: &Path, to: &mut Parameters) -> Result<bool, Error> {
    let mut found = false;
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: &str| Error::Content {
            path: path.to_owned(),
            what: format!("{what} on line {}", number + 1),
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            if found {
                break;
            }
            found = name.strip_suffix(']') == Some(service);
        } else if found {
            let (keyword, value) = line.split_once('=').ok_or_else(|| wrong("syntax error"))?;
            if keyword == "service" {
                return Err(wrong("nested service specification"));
            }
            to.set_default(keyword, value)?;
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn looked_up(dir: &Path, variables: &[(&str, &str)], service: &str) -> Result<Parameters, Error> {
        let sysconf = dir.display().to_string();
        let mut variables = variables.to_vec();
        variables.push(("PGSYSCONFDIR", &sysconf));
        let mut found = Parameters::parse("user=explicit").unwrap();
        add(service, &Environment::new(&variables, "os", dir), &mut found)?;
        Ok(found)
    }

    #[test]
    fn the_users_file_comes_before_the_systems() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pg_service.conf"), "[a]\nhost=system\n[b]\nhost=system # no comment\n")
            .unwrap();
        fs::write(
            dir.path().join(".pg_service.conf"),
            "# comment\n\n[other]\nhost=x\n[a]\nhost=own\nuser=service\n[b2]\nhost=y\n",
        )
        .unwrap();
        let a = looked_up(dir.path(), &[], "a").unwrap();
        assert_eq!((a.get("host"), a.get("user")), (Some("own"), Some("explicit")));
        let b = looked_up(dir.path(), &[], "b").unwrap();
        assert_eq!(b.get("host"), Some("system # no comment"));
        assert!(matches!(looked_up(dir.path(), &[], "c"), Err(Error::NoService(name)) if name == "c"));
    }

    #[test]
    fn a_named_file_has_to_be_there_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("services");
        let variables = [("PGSERVICEFILE", named.to_str().unwrap())];
        assert!(matches!(looked_up(dir.path(), &variables, "a"), Err(Error::File { .. })));
        for wrong in ["[a]\nhost\n", "[a]\nservice=b\n", "[a]\nnonsense=1\n", "[a]\nldap://x/y\n"] {
            fs::write(&named, wrong).unwrap();
            let error = looked_up(dir.path(), &variables, "a").unwrap_err();
            assert!(matches!(error, Error::Content { .. } | Error::UnknownOption(_)), "{wrong}: {error}");
        }
    }
}
