//! The tables: made and brought up to date under a lock, by whoever comes first.

use rbytea_connect::sql::{Extension, identifier, literal};
use tokio_postgres::Client;

use crate::error::Error;
use crate::files::BEGIN;

/// Advisory locks have two numbers: these, and one that tells schemas apart.
const SETTING_UP: i32 = 0x6f72_7430;
/// Held by a session for as long as it is the one that writes.
pub const HOLDING: i32 = 0x6f72_7431;
/// Held by every transaction that writes, shared, and alone by one that makes another session the one that writes.
pub const WRITING: i32 = 0x6f72_7432;

/// What leads from one version of the tables to the next, from none on.
fn steps(files: &str, state: &str, extension: &Extension) -> Vec<String> {
    vec![format!(
        "CREATE TABLE {state} (
             id boolean PRIMARY KEY DEFAULT true CHECK (id),
             version integer NOT NULL,
             epoch bigint NOT NULL
         );
         INSERT INTO {state} (version, epoch) VALUES (0, 0);
         CREATE TABLE {files} (
             uuid uuid PRIMARY KEY,
             type integer NOT NULL,
             stored timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
             content {schema}.rbytea NOT NULL
         );
         COMMENT ON TABLE {files} IS 'files of Orthanc';
         COMMENT ON TABLE {state} IS 'version of the tables, and the token of the Orthanc that writes'",
        schema = extension.schema
    )]
}

/// The tables and the extension as SQL names them.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The table of the files.
    pub files: String,
    /// The table of the version and the epoch.
    pub state: String,
    /// The extension.
    pub extension: Extension,
    /// Tells the advisory locks of this schema apart.
    pub lock: i32,
}

/// Tables whose names are known, and what makes them.
struct Plan {
    name: String,
    files: String,
    state: String,
    extension: Extension,
    steps: Vec<String>,
}

impl Plan {
    async fn of(db: &Client, name: &str) -> Result<Self, Error> {
        let extension = Extension::find(db).await?.ok_or_else(|| {
            Error::Unfit(
                "the database does not have the extension rbytea; a superuser makes it: CREATE EXTENSION rbytea".into(),
            )
        })?;
        let quoted = identifier(name);
        let (files, state) = (format!("{quoted}.orthanc_files"), format!("{quoted}.orthanc_files_state"));
        let steps = steps(&files, &state, &extension);
        Ok(Self { name: name.to_owned(), files, state, extension, steps })
    }

    /// How many steps have been taken; None if there are no tables.
    async fn taken(&self, db: &Client) -> Result<Option<usize>, Error> {
        are_ours(db, &[&self.files, &self.state]).await?;
        let Some(version) = version(db, &self.state).await? else { return Ok(None) };
        let taken = usize::try_from(version).ok().filter(|taken| *taken <= self.steps.len());
        let unknown = || {
            Error::Unfit(format!(
                "the tables in schema {} have version {version}, and versions up to {} are known here: this program is too old",
                identifier(&self.name),
                self.steps.len()
            ))
        };
        taken.map(Some).ok_or_else(unknown)
    }

    async fn done(self, db: &Client) -> Result<Schema, Error> {
        are_ours(db, &[&self.files, &self.state]).await?;
        let Self { files, state, extension, .. } = self;
        let row = db.query_one("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", &[&files]).await?;
        let oid: Option<u32> = row.get(0);
        let oid = oid.ok_or_else(|| Error::Unfit(format!("table {files} does not exist")))?;
        Ok(Schema { files, state, extension, lock: oid.cast_signed() })
    }
}

impl Schema {
    /// Finds the tables, makes them, brings them up to date.
    pub async fn set_up(db: &Client, name: &str) -> Result<Self, Error> {
        let plan = Plan::of(db, name).await?;
        if plan.taken(db).await? != Some(plan.steps.len()) {
            // Whoever else starts now waits here, and finds it done.
            db.batch_execute(&format!(
                "{BEGIN}; SELECT pg_catalog.pg_advisory_xact_lock({SETTING_UP}, pg_catalog.hashtext({}))",
                literal(name)
            ))
            .await?;
            let taken = match plan.taken(db).await? {
                Some(taken) => taken,
                None => {
                    exists(db, name).await?;
                    0
                }
            };
            for step in &plan.steps[taken..] {
                db.batch_execute(step).await?;
            }
            let update = format!("UPDATE {} SET version = {}; COMMIT", plan.state, plan.steps.len());
            db.batch_execute(&update).await?;
        }
        plan.done(db).await
    }

    /// Finds the tables, which have to be there and up to date.
    pub async fn find(db: &Client, name: &str) -> Result<Self, Error> {
        let plan = Plan::of(db, name).await?;
        match plan.taken(db).await? {
            Some(taken) if taken == plan.steps.len() => plan.done(db).await,
            Some(_) => Err(Error::Unfit(format!(
                "the tables in schema {} are those of an older version; the plugin brings them up to date",
                identifier(name)
            ))),
            None => Err(Error::Unfit(format!("schema {} has no files of Orthanc", identifier(name)))),
        }
    }
}

/// An error if somebody else has made one of these tables, as far as they are there: their owner can read what is stored, and runs code as
/// who stores or reads it. A superuser has to be the owner himself: with SET ROLE, such code could go back to his rights.
pub async fn are_ours(db: &Client, tables: &[&str]) -> Result<(), Error> {
    let query = "SELECT c.oid::pg_catalog.regclass::pg_catalog.text, pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text,
                        current_user::pg_catalog.text, c.relkind <> 'r'
                   FROM pg_catalog.unnest($1::pg_catalog.text[]) AS t (name)
                   JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(t.name)::pg_catalog.oid
                   JOIN pg_catalog.pg_roles AS r ON r.rolname = current_user
                  WHERE c.relkind <> 'r' OR c.relowner <> r.oid
                        AND (r.rolsuper OR NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'))";
    let rows = db.query(query, &[&tables]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (table, owner, user): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
    Err(Error::Unfit(match row.get(3) {
        true => format!("{table} is not a table"),
        false => format!(
            "table {table} is of the role \"{owner}\", and \"{user}\" is connected: who stores files has to own their tables"
        ),
    }))
}

/// The version of the tables; None if there are none.
async fn version(db: &Client, state: &str) -> Result<Option<i32>, Error> {
    let there = db.query_one("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[&state]).await?;
    if !there.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = db.query_opt(&format!("SELECT version FROM {state}"), &[]).await?;
    let row = row.ok_or_else(|| Error::Unfit(format!("table {state} is empty")))?;
    Ok(Some(row.get(0)))
}

async fn exists(db: &Client, schema: &str) -> Result<(), Error> {
    let row = db.query_opt("SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1", &[&schema]).await?;
    row.map(drop)
        .ok_or_else(|| Error::Unfit(format!("schema {} does not exist in the database", identifier(schema))))
}
