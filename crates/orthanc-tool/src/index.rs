//! What Orthanc's index knows of its files: read from the official PostgreSQL index in the same database, or asked of Orthanc.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use futures_util::{StreamExt, TryStreamExt, stream};
use rbytea_connect::decode;
use rbytea_connect::sql::identifier;
use rbytea_tool::connection::Db;
use rbytea_tool::error::Error;
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use uuid::Uuid;

use crate::Common;

/// How many files are looked at in one go.
const BATCH: i64 = 1000;

/// How many requests are under way at a time.
const REQUESTS: usize = 8;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A file as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub uuid: String,
    pub content_type: i32,
    /// Bytes of the file, compressed if Orthanc compresses.
    pub len: u64,
    /// MD5 of these bytes; empty if Orthanc does not keep it.
    pub md5: String,
    /// Whose it is, where Orthanc was asked.
    resource: String,
}

/// An index that is being read.
pub enum Index {
    /// The official one.
    PostgreSql {
        /// The table with its schema, in quotes.
        table: String,
        /// The last row that was read.
        last: (i64, i32),
    },
    /// One that Orthanc answers for.
    Orthanc {
        orthanc: Orthanc,
        /// Resources that are left.
        left: Vec<String>,
    },
}

impl Index {
    /// The one that the options name.
    pub async fn open(db: &Db, options: &Common) -> Result<Self, Error> {
        if let Some(url) = &options.index {
            let orthanc = Orthanc::at(url)?;
            let mut left = Vec::new();
            for level in ["instances", "series", "studies", "patients"] {
                let list = orthanc.get(format!("/{level}")).await?;
                let list = list.as_ref().and_then(Value::as_array);
                let list = list.ok_or_else(|| {
                    Error::said(format!(
                        "{}/{level} is not a list: is it Orthanc's REST interface?",
                        orthanc.url
                    ))
                })?;
                left.extend(list.iter().filter_map(Value::as_str).map(|id| format!("/{level}/{id}")));
            }
            // From the end on, it is instances first.
            left.reverse();
            return Ok(Self::Orthanc { orthanc, left });
        }
        let table = format!("{}.attachedfiles", identifier(&options.index_schema));
        let there = db.query_one("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[&table]).await?;
        if there.get(0) {
            Ok(Self::PostgreSql { table, last: (i64::MIN, i32::MIN) })
        } else {
            Err(Error::said(format!(
                "the database has no index of Orthanc (table {table}); --index is for one that is elsewhere"
            )))
        }
    }

    /// How much there is to read, in whatever it is read by.
    pub async fn size(&self, db: &Db) -> Result<u64, Error> {
        match self {
            Self::PostgreSql { table, .. } => {
                let row = db.query_one(&format!("SELECT pg_catalog.count(*) FROM {table}"), &[]).await?;
                Ok(row.get::<_, i64>(0).unsigned_abs())
            }
            Self::Orthanc { left, .. } => Ok(left.len() as u64),
        }
    }

    /// The next files, and how much of the size they are; None at the end.
    pub async fn next(&mut self, db: &Db) -> Result<Option<(Vec<Entry>, u64)>, Error> {
        match self {
            Self::PostgreSql { table, last } => {
                let query = format!(
                    "SELECT id, filetype, uuid::pg_catalog.text, compressedsize,
                            COALESCE(compressedhash, '')::pg_catalog.text
                       FROM {table} WHERE (id, filetype) > ($1, $2) ORDER BY id, filetype LIMIT {BATCH}"
                );
                let rows = db.query(&query, &[&last.0, &last.1]).await?;
                if let Some(row) = rows.last() {
                    *last = (row.get(0), row.get(1));
                }
                let entries: Vec<Entry> = rows
                    .iter()
                    .map(|row| Entry {
                        uuid: row.get(2),
                        content_type: row.get(1),
                        len: row.get::<_, i64>(3).unsigned_abs(),
                        md5: row.get(4),
                        resource: String::new(),
                    })
                    .collect();
                let count = entries.len() as u64;
                Ok((count > 0).then_some((entries, count)))
            }
            Self::Orthanc { orthanc, left } => {
                if left.is_empty() {
                    return Ok(None);
                }
                let resources = left.split_off(left.len().saturating_sub(BATCH as usize));
                let count = resources.len() as u64;
                let entries: Vec<Vec<Entry>> = stream::iter(resources)
                    .map(|resource| orthanc.attachments(resource))
                    .buffer_unordered(REQUESTS)
                    .try_collect()
                    .await?;
                Ok(Some((entries.concat(), count)))
            }
        }
    }
}

impl Index {
    /// Whether a file that was known before is still known: Orthanc goes on meanwhile.
    pub async fn still_knows(&self, db: &Db, entry: &Entry) -> Result<bool, Error> {
        match self {
            Self::PostgreSql { table, .. } => {
                let query = format!("SELECT EXISTS (SELECT FROM {table} WHERE uuid = $1::pg_catalog.text)");
                Ok(db.query_one(&query, &[&entry.uuid]).await?.get(0))
            }
            Self::Orthanc { orthanc, .. } => {
                let now = orthanc.attachments(entry.resource.clone()).await?;
                Ok(now.iter().any(|other| other.uuid == entry.uuid))
            }
        }
    }
}

/// The REST interface of an Orthanc.
#[derive(Clone)]
pub struct Orthanc {
    agent: ureq::Agent,
    url: String,
    authorization: Option<String>,
}

impl Orthanc {
    fn at(url: &str) -> Result<Self, Error> {
        let (scheme, rest) =
            url.split_once("://")
                .filter(|(scheme, _)| ["http", "https"].contains(scheme))
                .ok_or_else(|| Error::said("--index is a URL that begins with http:// or https://"))?;
        let slash = rest.find('/').unwrap_or(rest.len());
        if rest[slash..].contains('@') {
            return Err(Error::said(
                "a \"/\" in the user or the password of --index does not work; ORTHANC_PASSWORD has no such limit",
            ));
        }
        let (login, host) = match rest[..slash].rsplit_once('@') {
            Some((login, host)) => (Some(login), format!("{host}{}", &rest[slash..])),
            None => (None, rest.to_owned()),
        };
        let authorization = match login {
            None => None,
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let decoded = |text| decode(text).map_err(|error| Error::said(format!("--index: {error}")));
                let password = match password {
                    "" => std::env::var("ORTHANC_PASSWORD").unwrap_or_default(),
                    password => decoded(password)?,
                };
                let both = format!("{}:{password}", decoded(user)?);
                Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(both)))
            }
        };
        let mut config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT));
        if scheme == "https" {
            config = config.tls_config(tls());
        }
        let config = config.build();
        let url = format!("{scheme}://{}", host.trim_end_matches('/'));
        Ok(Self { agent: config.into(), url, authorization })
    }

    /// What a path of it is answered; None if there is no such resource.
    async fn get(&self, path: String) -> Result<Option<Value>, Error> {
        let this = self.clone();
        let shown = path.clone();
        let answered = tokio::task::spawn_blocking(move || {
            let mut request = this.agent.get(format!("{}{path}", this.url));
            if let Some(authorization) = &this.authorization {
                request = request.header("Authorization", authorization);
            }
            match request.call() {
                Ok(mut answer) => answer.body_mut().with_config().limit(u64::MAX).read_to_string().map(Some),
                Err(ureq::Error::StatusCode(404)) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let refused =
            "HTTP 401: Orthanc wants a user, of the URL, and a password, of the URL or of ORTHANC_PASSWORD";
        let answer = answered.await.map_err(|error| Error::said(error.to_string()))?;
        let failed = |error: &dyn std::fmt::Display| Error::said(format!("{}{shown}: {error}", self.url));
        let answer = answer.map_err(|error| match error {
            ureq::Error::StatusCode(401) => failed(&refused),
            error => failed(&error),
        });
        match answer? {
            Some(text) => serde_json::from_str(&text).map(Some).map_err(|error| failed(&error)),
            None => Ok(None),
        }
    }

    /// The files of a resource. One that is deleted meanwhile has none.
    async fn attachments(&self, resource: String) -> Result<Vec<Entry>, Error> {
        let unknown = |what: &str| {
            Error::said(format!("{}{resource}/{what} is not what it was in Orthanc 1.10", self.url))
        };
        let Some(names) = self.get(format!("{resource}/attachments")).await? else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        for name in names.as_array().ok_or_else(|| unknown("attachments"))? {
            let name = name.as_str().ok_or_else(|| unknown("attachments"))?;
            let path = format!("attachments/{name}/info");
            if let Some(info) = self.get(format!("{resource}/{path}")).await? {
                entries.push(entry(&info, &resource).ok_or_else(|| unknown(&path))?);
            }
        }
        Ok(entries)
    }
}

/// TLS that trusts whom the operating system trusts.
fn tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs();
    let roots: Vec<Certificate<'static>> =
        found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .build()
}

/// What Orthanc says of an attachment.
fn entry(info: &Value, resource: &str) -> Option<Entry> {
    let text = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let uuid = text("Uuid");
    Uuid::try_parse(&uuid).ok()?;
    Some(Entry {
        uuid,
        content_type: i32::try_from(info.get("ContentType")?.as_i64()?).ok()?,
        len: info.get("CompressedSize")?.as_u64()?,
        md5: text("CompressedMD5"),
        resource: resource.to_owned(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn urls_have_users() {
        let orthanc = Orthanc::at("https://u:p@h:8042/orthanc/").unwrap();
        assert_eq!(orthanc.url, "https://h:8042/orthanc");
        assert_eq!(orthanc.authorization.as_deref(), Some("Basic dTpw"));
        let encoded = Orthanc::at("https://u:%70@h").unwrap();
        assert_eq!(encoded.authorization, orthanc.authorization);
        let plain = Orthanc::at("http://h").unwrap();
        assert_eq!((plain.url.as_str(), plain.authorization), ("http://h", None));
        assert!(Orthanc::at("h:8042").is_err());
    }

    #[test]
    fn attachments_are_read() {
        let info = json!({ "CompressedMD5": "m", "CompressedSize": 7, "ContentType": 1, "UncompressedSize": 9,
                           "Uuid": "00000000-0000-0000-0000-000000000001" });
        let expected = Entry {
            uuid: "00000000-0000-0000-0000-000000000001".into(),
            content_type: 1,
            len: 7,
            md5: "m".into(),
            resource: "/instances/x".into(),
        };
        assert_eq!(entry(&info, "/instances/x"), Some(expected));
        assert_eq!(entry(&json!({ "Uuid": "x" }), ""), None);
    }
}
