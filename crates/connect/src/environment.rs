//! What a connection takes from the process: environment variables, the operating system's user, and the home directory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix::unistd::{User, geteuid};

/// The surroundings of a connection; tests make their own.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    home: Option<PathBuf>,
    user: Option<String>,
}

impl Environment {
    /// That of this process. Variables that are not UTF-8 are taken for absent.
    pub fn of_process() -> Self {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let user = User::from_uid(geteuid()).ok().flatten();
        let home = variables.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        Self {
            variables,
            home: home.or_else(|| user.as_ref().map(|user| user.dir.clone())),
            user: user.map(|user| user.name),
        }
    }

    /// One with these variables, whose user has this name and this home directory.
    pub fn new(variables: &[(&str, &str)], user: &str, home: impl Into<PathBuf>) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { variables: variables.collect(), home: Some(home.into()), user: Some(user.to_owned()) }
    }

    /// A variable; an empty one counts as absent, as with libpq.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A file in the user's home directory.
    pub(crate) fn in_home(&self, name: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(name))
    }

    /// The name of the operating system's user.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
}
