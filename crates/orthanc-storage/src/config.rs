//! What Orthanc's configuration says: the section `Rbytea`, and for what it leaves out the section `PostgreSQL` of the official
//! plugins, whose keys these are.

use std::time::Duration;

use rbytea_connect::{Environment, Parameters, Target};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::old::Old;

const SECTION: &str = "Rbytea";

/// The section whose connection is used where [`SECTION`] says nothing.
const OFFICIAL: &str = "PostgreSQL";

/// Says where to connect in place of [`PLACE`].
const URI: &str = "ConnectionUri";

/// Keys that say where to connect.
const PLACE: &[&str] = &["Host", "Port", "Database", "Username", "Password", "EnableSsl"];

/// The other keys that the official plugin has as well.
const SHARED: &[&str] =
    &[URI, "ApplicationName", "Lock", "Schema", "MaximumConnectionRetries", "ConnectionRetryInterval"];

/// What the server is told of the client if the configuration says nothing.
const NAME: &str = "Orthanc (rbytea storage)";

/// Keys of this plugin alone.
const OWN: &[&str] = &["EnableStorage", "MaximumConnections", "ReadFrom"];

/// Where the files are, and how they are reached.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server, database and user.
    pub target: Target,
    /// The schema of the tables, not in quotes.
    pub schema: String,
    /// Whether nobody else may write meanwhile.
    pub lock: bool,
    /// How many connections there may be.
    pub connections: usize,
    /// How long to go on trying where a server does not answer.
    pub patience: Duration,
    /// The longest pause between two attempts.
    pub interval: Duration,
    /// Where files are read that are not in the tables yet.
    pub old: Option<Old>,
}

/// Two sections as one: each key's value and the section that it is from.
struct Sections<'a> {
    own: &'a Map<String, Value>,
    official: Option<&'a Map<String, Value>>,
}

impl Config {
    /// Of Orthanc's whole configuration. None if the storage is not enabled.
    pub fn parse(configuration: &str, environment: &Environment) -> Result<Option<Self>, Error> {
        let whole: Value = serde_json::from_str(configuration)
            .map_err(|error| Error::Unfit(format!("Orthanc's configuration cannot be read: {error}")))?;
        let section = |name: &str| match whole.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(section)) => Ok(Some(section)),
            Some(_) => Err(Error::Unfit(format!("\"{name}\" in the configuration is not a section"))),
        };
        let Some(own) = section(SECTION)? else {
            return Err(Error::Unfit(format!(
                "the configuration has no section \"{SECTION}\": {{ \"{SECTION}\": {{ \"EnableStorage\": true }} }} stores \
                 files where the section \"{OFFICIAL}\" connects to"
            )));
        };
        let known = || PLACE.iter().chain(SHARED).chain(OWN);
        if let Some(key) = own.keys().find(|key| !known().any(|known| known == key)) {
            let known = known().copied().collect::<Vec<_>>().join(", ");
            return Err(Error::Unfit(format!(
                "unknown key \"{key}\" in the section \"{SECTION}\"; its keys are {known}"
            )));
        }
        let sections = Sections { own, official: section(OFFICIAL)? };
        match own.get("EnableStorage") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Ok(None),
            _ => {
                return Err(Error::Unfit(format!(
                    "\"EnableStorage\" in the section \"{SECTION}\" has to be true or false"
                )));
            }
        }
        let target = Target::resolve_with(sections.parameters()?, environment, LIMITS)?;
        let bounded = |key: &str, default, most| match sections.number(key, default)? {
            number if number <= most => Ok(number),
            _ => Err(Error::Unfit(format!("\"{key}\" has to be at most {most}"))),
        };
        let retries = bounded("MaximumConnectionRetries", 10, 1_000_000)?;
        let interval = Duration::from_secs(bounded("ConnectionRetryInterval", 5, 3600)?);
        let connections = sections.number("MaximumConnections", 10)?;
        if !(1..=1000).contains(&connections) {
            return Err(Error::Unfit("\"MaximumConnections\" has to be between 1 and 1000".into()));
        }
        let schema = sections.text("Schema")?.map_or("public".into(), |name| name.to_lowercase());
        let old = match sections.text("ReadFrom")? {
            None => None,
            Some(place) => Some(Old::parse(&place, &schema).ok_or_else(|| {
                Error::Unfit("\"ReadFrom\" has to be \"LargeObjects\" or the path of a directory".into())
            })?),
        };
        Ok(Some(Self {
            target,
            schema,
            old,
            lock: sections.boolean("Lock", true)?,
            connections: connections as usize,
            patience: interval.saturating_mul(u32::try_from(retries).unwrap_or(u32::MAX)),
            interval,
        }))
    }
}

/// What libpq waits for without end: an attempt to connect; the other side of a connection that a firewall has forgotten or whose
/// machine is gone. Nothing is lost by being told: every operation is tried again.
const LIMITS: &[(&str, &str)] = &[
    ("connect_timeout", "10"),
    ("keepalives_idle", "30"),
    ("keepalives_interval", "5"),
    ("tcp_user_timeout", "15000"),
];

impl Sections<'_> {
    /// What a key says, and in which section.
    fn get(&self, key: &str) -> Option<(&'static str, &Value)> {
        let found = |section, values: &'_ Map<String, Value>| values.get(key).map(|_| section);
        let section = found(SECTION, self.own).or_else(|| found(OFFICIAL, self.official?))?;
        let values = if section == SECTION { Some(self.own) } else { self.official };
        Some((section, values?.get(key)?))
    }

    fn is_not(&self, section: &str, key: &str, what: &str) -> Error {
        // Not the value, which may be a password.
        Error::Unfit(format!("\"{key}\" in the section \"{section}\" is not {what}"))
    }

    fn text(&self, key: &str) -> Result<Option<String>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some((section, _)) => Err(self.is_not(section, key, "a string")),
        }
    }

    fn number(&self, key: &str, default: u64) -> Result<u64, Error> {
        match self.get(key) {
            None => Ok(default),
            Some((section, value)) => {
                value.as_u64().ok_or_else(|| self.is_not(section, key, "a number, or less than 0"))
            }
        }
    }

    fn boolean(&self, key: &str, default: bool) -> Result<bool, Error> {
        match self.get(key) {
            None => Ok(default),
            Some((section, value)) => {
                value.as_bool().ok_or_else(|| self.is_not(section, key, "true or false"))
            }
        }
    }

    /// Where to connect, in libpq's words.
    fn parameters(&self) -> Result<Parameters, Error> {
        let own_place = PLACE.iter().find(|key| self.own.contains_key(**key));
        let (uri_section, uri) = match self.get(URI) {
            Some((section, _)) => (section, self.text(URI)?),
            None => (SECTION, None),
        };
        let name = self.text("ApplicationName")?;
        if let Some(uri) = uri {
            if let Some(key) = own_place {
                return Err(Error::Unfit(format!(
                    "\"{key}\" in the section \"{SECTION}\" and \"{URI}\" in the section \"{uri_section}\" both say where to \
                     connect: one of them is too much"
                )));
            }
            let mut parameters = Parameters::parse(&uri)?;
            parameters.set("fallback_application_name", name.as_deref().unwrap_or(NAME))?;
            return Ok(parameters);
        }
        let mut parameters = Parameters::default();
        parameters.set("host", &self.text("Host")?.unwrap_or("localhost".into()))?;
        let port = self.number("Port", 5432)?;
        if !(1..=65535).contains(&port) {
            return Err(Error::Unfit("\"Port\" has to be between 1 and 65535".into()));
        }
        parameters.set("port", &port.to_string())?;
        for (key, keyword) in [("Database", "dbname"), ("Username", "user"), ("Password", "password")] {
            if let Some(text) = self.text(key)? {
                parameters.set(keyword, &text)?;
            }
        }
        parameters.set("sslmode", if self.boolean("EnableSsl", false)? { "require" } else { "disable" })?;
        parameters.set("application_name", name.as_deref().unwrap_or(NAME))?;
        Ok(parameters)
    }
}
