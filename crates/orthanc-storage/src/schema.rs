//! The tables: made and brought up to date under a lock, by whoever comes first.

use rbytea_connect::sql::{Extension, identifier};
use tokio_postgres::Client;

use crate::error::Error;

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
         COMMENT ON TABLE {state} IS 'version of the tables, and how often the lock of an Orthanc that writes was taken'",
        schema = extension.schema
    )]
}

/// The tables and the extension as SQL names them.
#[derive(Clone, Debug)]
pub struct Schema {
    pub files: String,
    pub state: String,
    pub extension: Extension,
    /// Tells the advisory locks of this schema apart.
    pub lock: i32,
}

impl Schema {
    /// Finds the tables, makes them, brings them up to date.
    pub async fn set_up(db: &Client, name: &str) -> Result<Self, Error> {
        let extension = Extension::find(db).await?.ok_or_else(|| {
            Error::Unfit(
                "the database does not have the extension rbytea; a superuser makes it: CREATE EXTENSION rbytea".into(),
            )
        })?;
        let quoted = identifier(name);
        let (files, state) = (format!("{quoted}.orthanc_files"), format!("{quoted}.orthanc_files_state"));
        let steps = steps(&files, &state, &extension);
        let known = |version: i32| usize::try_from(version).ok().filter(|version| *version <= steps.len());
        let unknown = |version| {
            Error::Unfit(format!(
                "the tables in schema {quoted} have version {version}, and this plugin knows versions up to {}: it is too old",
                steps.len()
            ))
        };
        let version = version(db, &state).await?;
        if version.map(|version| known(version).ok_or_else(|| unknown(version))).transpose()?
            != Some(steps.len())
        {
            // Whoever else starts now waits here, and finds it done.
            db.batch_execute(&format!(
                "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock({SETTING_UP}, pg_catalog.hashtext('{}'))",
                name.replace('\'', "''")
            ))
            .await?;
            let version = self::version(db, &state).await?;
            let from = match version {
                Some(version) => known(version).ok_or_else(|| unknown(version))?,
                None => {
                    exists(db, name).await?;
                    0
                }
            };
            for step in &steps[from..] {
                db.batch_execute(step).await?;
            }
            db.batch_execute(&format!("UPDATE {state} SET version = {}; COMMIT", steps.len())).await?;
        }
        let row = db.query_one("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", &[&files]).await?;
        let oid: Option<u32> = row.get(0);
        let oid = oid.ok_or_else(|| Error::Unfit(format!("table {files} does not exist")))?;
        Ok(Self { files, state, extension, lock: oid.cast_signed() })
    }
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
