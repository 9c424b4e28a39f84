//! What is looked at when a storage starts, and said in words.

use tokio_postgres::Client;

use crate::error::Error;

/// The oldest server that the extension is for.
const OLDEST: i32 = 150_000;

/// Comes before the session has loaded the library: a setting of a library that is not loaded is not in pg_settings. An error where it
/// cannot work; else what the administrator should know.
pub async fn check(db: &Client) -> Result<Vec<String>, Error> {
    let query = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
                        pg_catalog.current_setting('server_version'),
                        pg_catalog.current_database()::pg_catalog.text,
                        (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'rbytea.databases_for_vacuuming'),
                        pg_catalog.pg_is_in_recovery()";
    let row = db.query_one(query, &[]).await?;
    let (number, version): (i32, String) = (row.get(0), row.get(1));
    let (database, visited): (String, Option<String>) = (row.get(2), row.get(3));
    if number < OLDEST {
        return Err(Error::Unfit(format!(
            "the server is PostgreSQL {version}; 15 is the oldest that will do"
        )));
    }
    if row.get(4) {
        return Err(Error::Lock("the server is a standby, which nothing can be written to".into()));
    }
    let garbage = "so files that Orthanc deletes stay on the disk until somebody calls rvacuum()";
    Ok(match visited {
        None => vec![format!(
            "the server does not preload rbytea (shared_preload_libraries): it has no background vacuum, {garbage}"
        )],
        Some(list) if !names(&list).contains(&database) => vec![format!(
            "database \"{database}\" is not in rbytea.databases_for_vacuuming: the background vacuum does not visit it, \
             {garbage}"
        )],
        Some(_) => Vec::new(),
    })
}

/// The names in a list of identifiers: lower case unless they are in double quotes (SplitIdentifierString).
fn names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut name, mut quoted) = (String::new(), false);
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => name.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => names.push(std::mem::take(&mut name)),
            c if quoted => name.push(c),
            c if c.is_whitespace() => {}
            c => name.extend(c.to_lowercase()),
        }
    }
    names.push(name);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_databases_are_identifiers() {
        assert_eq!(names(r#"a, "B c","d""e,f" ,G"#), ["a", "B c", "d\"e,f", "g"]);
        assert_eq!(names(""), [""]);
    }
}
