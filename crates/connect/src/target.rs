//! A connection's description, complete: what was said explicitly, then the service, the environment, and libpq's defaults.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, SslNegotiation};

use crate::environment::Environment;
use crate::error::Error;
use crate::parameters::{KEYWORDS, Parameters, Use};
use crate::tls::{Files, Verification};
use crate::{passfile, service};

/// Where Debian's libpq looks for the server's socket.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

const PORT: u16 = 5432;

/// Whether TLS is used, in the words of `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// What the server must be, in the words of `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attributes {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// One entry of the list of hosts.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub place: Place,
    pub port: u16,
    pub password: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The directory of a Unix-domain socket.
    Socket(PathBuf),
    /// A name for TLS and for the password file, and the address if it is not to be looked up.
    Network { name: String, address: Option<IpAddr> },
}

/// The bits of `keepalives…` and `tcp_user_timeout`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keepalives {
    pub off: bool,
    pub idle: Option<Duration>,
    pub interval: Option<Duration>,
    pub count: Option<u32>,
    pub user_timeout: Option<Duration>,
}

/// Where to connect, as whom, and how.
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) application: Option<String>,
    pub(crate) options: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) attributes: Attributes,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) ssl: SslMode,
    pub(crate) negotiation: SslNegotiation,
    pub(crate) files: Files,
    pub(crate) keepalives: Keepalives,
    /// What to tell the user, a password file that is not used for instance.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// As it stands in messages.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Socket(directory) => {
                write!(f, "server on socket \"{}/.s.PGSQL.{}\"", directory.display(), self.port)
            }
            Place::Network { name, .. } => write!(f, "server at \"{name}\", port {}", self.port),
        }
    }
}

impl Target {
    /// Fills up what was said explicitly.
    pub fn resolve(said: Parameters, environment: &Environment) -> Result<Self, Error> {
        Self::resolve_with(said, environment, &[])
    }

    /// The same where what nothing says is not libpq's default but this: pairs of keywords and values.
    pub fn resolve_with(
        mut said: Parameters,
        environment: &Environment,
        defaults: &[(&str, &str)],
    ) -> Result<Self, Error> {
        if let Some(name) = said.get("service").or_else(|| environment.get("PGSERVICE")).map(str::to_owned) {
            service::add(&name, environment, &mut said)?;
        }
        for (keyword, variable, taken) in KEYWORDS {
            if let Some(value) = environment.get(variable) {
                match taken {
                    Use::Ignored => {}
                    _ => said.set_default(keyword, value)?,
                }
            }
        }
        for (keyword, value) in defaults {
            said.set_default(keyword, value)?;
        }
        if said.get("gssencmode").or_else(|| environment.get("PGGSSENCMODE")) == Some("require") {
            return Err(Error::Unsupported("gssencmode"));
        }
        let user = said.get("user").or_else(|| environment.user()).map(str::to_owned);
        let user = user.ok_or_else(|| Error::Conflict("no user name specified".into()))?;
        let database = said.get("dbname").unwrap_or(&user).to_owned();
        let mut warnings = Vec::new();
        let hosts = hosts(&said, environment, &user, &database, &mut warnings)?;
        let (ssl, files) = tls(&said, environment)?;
        Ok(Self {
            hosts,
            application: said
                .get("application_name")
                .or_else(|| said.get("fallback_application_name"))
                .map(str::to_owned),
            options: said.get("options").map(str::to_owned),
            timeout: timeout(&said)?,
            attributes: attributes(&said)?,
            channel_binding: match said.get("channel_binding") {
                None | Some("prefer") => ChannelBinding::Prefer,
                Some("disable") => ChannelBinding::Disable,
                Some("require") => ChannelBinding::Require,
                Some(other) => return Err(value("channel_binding", other)),
            },
            negotiation: match said.get("sslnegotiation") {
                None | Some("postgres") => SslNegotiation::Postgres,
                Some("direct") if weaker_than_require(ssl) => {
                    return Err(Error::Conflict(
                        "weak sslmode may not be used with sslnegotiation=direct (use \"require\", \"verify-ca\", or \
                         \"verify-full\")"
                            .into(),
                    ));
                }
                Some("direct") => SslNegotiation::Direct,
                Some(other) => return Err(value("sslnegotiation", other)),
            },
            keepalives: Keepalives {
                off: said.get("keepalives") == Some("0"),
                idle: number(&said, "keepalives_idle")?.map(Duration::from_secs),
                interval: number(&said, "keepalives_interval")?.map(Duration::from_secs),
                count: number(&said, "keepalives_count")?,
                user_timeout: number(&said, "tcp_user_timeout")?.map(Duration::from_millis),
            },
            user,
            database,
            ssl,
            files,
            warnings,
        })
    }

    /// The name of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The same with another database.
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// The same with this password for every host.
    pub fn with_password(&self, password: &str) -> Self {
        let mut target = self.clone();
        for host in &mut target.hosts {
            host.password = Some(password.to_owned());
        }
        target
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }
}

fn value(keyword: &'static str, value: &str) -> Error {
    Error::Value { keyword, value: value.to_owned() }
}

fn number<T: FromStr>(said: &Parameters, keyword: &'static str) -> Result<Option<T>, Error> {
    said.get(keyword).map(|text| text.trim().parse().map_err(|_| value(keyword, text))).transpose()
}

/// As libpq has it: none for 0 and below, and never one second, which is too short for a name server.
fn timeout(said: &Parameters) -> Result<Option<Duration>, Error> {
    let seconds: Option<i64> = number(said, "connect_timeout")?;
    Ok(seconds
        .filter(|seconds| *seconds > 0)
        .map(|seconds| Duration::from_secs(seconds.max(2).unsigned_abs())))
}

fn attributes(said: &Parameters) -> Result<Attributes, Error> {
    Ok(match said.get("target_session_attrs") {
        None | Some("any") => Attributes::Any,
        Some("read-write") => Attributes::ReadWrite,
        Some("read-only") => Attributes::ReadOnly,
        Some("primary") => Attributes::Primary,
        Some("standby") => Attributes::Standby,
        Some("prefer-standby") => Attributes::PreferStandby,
        Some(other) => return Err(value("target_session_attrs", other)),
    })
}

fn weaker_than_require(mode: SslMode) -> bool {
    matches!(mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer)
}

/// The lists of hosts, addresses and ports side by side, and each host's password.
fn hosts(
    said: &Parameters,
    environment: &Environment,
    user: &str,
    database: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<Host>, Error> {
    let list = |keyword| said.get(keyword).map(|list| list.split(',').collect::<Vec<_>>());
    let (names, addresses) = (list("host"), list("hostaddr"));
    let count = addresses.as_ref().or(names.as_ref()).map_or(1, Vec::len);
    if let Some(names) = names.as_ref().filter(|names| names.len() != count) {
        return Err(Error::Conflict(format!(
            "could not match {} host names to {count} hostaddr values",
            names.len()
        )));
    }
    let ports = list("port").unwrap_or_default();
    if ports.len() > 1 && ports.len() != count {
        return Err(Error::Conflict(format!(
            "could not match {} port numbers to {count} hosts",
            ports.len()
        )));
    }
    let passwords = if said.get("password").is_none() {
        let named = said.get("passfile").map(PathBuf::from).or_else(|| environment.in_home(".pgpass"));
        let (text, warning) = named.map_or((None, None), |path| passfile::read(&path));
        warnings.extend(warning);
        text
    } else {
        None
    };
    (0..count)
        .map(|at| {
            let name = names.as_ref().map_or("", |names| names[at].trim());
            let address = addresses.as_ref().map_or("", |addresses| addresses[at].trim());
            let port = match ports.get(if ports.len() > 1 { at } else { 0 }).map_or("", |port| port.trim()) {
                "" => PORT,
                text => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| value("port", text))?,
            };
            let place = place(name, address)?;
            // The file calls the default socket localhost.
            let host = match &place {
                Place::Socket(directory) if directory == Path::new(SOCKET_DIRECTORY) => "localhost".into(),
                Place::Socket(directory) => directory.to_string_lossy().into_owned(),
                Place::Network { name, .. } => name.clone(),
            };
            let key = passfile::Key { host: &host, port, database, user };
            let password = said.get("password").map(str::to_owned);
            let password = password.or_else(|| passfile::find(passwords.as_deref()?, key));
            Ok(Host { place, port, password })
        })
        .collect()
}

fn place(name: &str, address: &str) -> Result<Place, Error> {
    if !address.is_empty() {
        let parsed = address.parse().map_err(|_| value("hostaddr", address))?;
        let name = if name.is_empty() { address } else { name };
        return Ok(Place::Network { name: name.to_owned(), address: Some(parsed) });
    }
    Ok(match name {
        "" => Place::Socket(SOCKET_DIRECTORY.into()),
        path if path.starts_with(['/', '@']) => Place::Socket(path.into()),
        name => Place::Network { name: name.to_owned(), address: None },
    })
}

/// The mode, and the files that it takes: an authority's certificate that exists is used by `require`, too.
fn tls(said: &Parameters, environment: &Environment) -> Result<(SslMode, Files), Error> {
    let system = said.get("sslrootcert") == Some("system");
    let mode = match said.get("sslmode") {
        None if system => SslMode::VerifyFull,
        None | Some("prefer") => SslMode::Prefer,
        Some("disable") => SslMode::Disable,
        Some("allow") => SslMode::Allow,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(other) => return Err(value("sslmode", other)),
    };
    if system && mode != SslMode::VerifyFull {
        return Err(Error::Conflict(
            "weak sslmode may not be used with sslrootcert=system (use \"verify-full\")".into(),
        ));
    }
    let file = |keyword: &str, default: &str| {
        let named = said.get(keyword).map(PathBuf::from);
        (named.is_some(), named.or_else(|| environment.in_home(&format!(".postgresql/{default}"))))
    };
    let existing = |(_, path): (bool, Option<PathBuf>)| path.filter(|path| path.exists());
    let root = file("sslrootcert", "root.crt");
    let verification = match mode {
        _ if system => Verification::System,
        SslMode::VerifyFull | SslMode::VerifyCa => {
            let missing = || {
                let path = root.1.clone().unwrap_or_default();
                Error::Conflict(format!(
                    "root certificate file \"{}\" does not exist: provide the file, use sslrootcert=system, or change sslmode",
                    path.display()
                ))
            };
            let path = existing(root.clone()).ok_or_else(missing)?;
            if mode == SslMode::VerifyFull { Verification::Full(path) } else { Verification::Authority(path) }
        }
        SslMode::Disable => Verification::None,
        _ => existing(root).map_or(Verification::None, Verification::Authority),
    };
    let certificate = file("sslcert", "postgresql.crt");
    let certificate = if certificate.0 { certificate.1 } else { existing(certificate) };
    let key = file("sslkey", "postgresql.key").1;
    Ok((
        mode,
        Files { verification, revoked: existing(file("sslcrl", "root.crl")), identity: certificate.zip(key) },
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn resolved(text: &str, variables: &[(&str, &str)]) -> Result<Target, Error> {
        Target::resolve(Parameters::parse(text).unwrap(), &Environment::new(variables, "os", "/nonexistent"))
    }

    fn network(name: &str, address: Option<&str>) -> Place {
        Place::Network { name: name.into(), address: address.map(|text| text.parse().unwrap()) }
    }

    #[test]
    fn nothing_said_is_the_socket_and_the_users_name() {
        let target = resolved("", &[]).unwrap();
        assert_eq!(target.hosts.len(), 1);
        assert_eq!(target.hosts[0].place, Place::Socket("/var/run/postgresql".into()));
        assert_eq!((target.hosts[0].port, target.user(), target.database()), (5432, "os", "os"));
        assert_eq!((target.ssl, target.attributes, target.timeout), (SslMode::Prefer, Attributes::Any, None));
        assert_eq!(resolved("user=lena", &[]).unwrap().database(), "lena");
    }

    #[test]
    fn what_is_said_comes_before_the_environment() {
        let variables = [
            ("PGHOST", "envhost"),
            ("PGPORT", "1"),
            ("PGUSER", "envuser"),
            ("PGDATABASE", "envdb"),
            ("PGAPPNAME", ""),
        ];
        let target = resolved("host=h fallback_application_name=rbytea", &variables).unwrap();
        assert_eq!((&target.hosts[0].place, target.hosts[0].port), (&network("h", None), 1));
        assert_eq!((target.user(), target.database()), ("envuser", "envdb"));
        assert_eq!(target.application.as_deref(), Some("rbytea"));
    }

    #[test]
    fn services_come_between() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("services");
        fs::write(&file, "[s]\nhost=service\nuser=service\n").unwrap();
        let variables = [
            ("PGSERVICEFILE", file.to_str().unwrap()),
            ("PGUSER", "env"),
            ("PGPORT", "7"),
            ("PGSERVICE", "none"),
        ];
        let target = resolved("service=s dbname=d", &variables).unwrap();
        assert_eq!((&target.hosts[0].place, target.hosts[0].port), (&network("service", None), 7));
        assert_eq!((target.user(), target.database()), ("service", "d"));
        assert!(matches!(resolved("", &variables), Err(Error::NoService(_))));
    }

    #[test]
    fn lists_stand_side_by_side() {
        let target = resolved("host=a,,/tmp hostaddr='' port=1,,3", &[]).unwrap();
        let places: Vec<_> = target.hosts.iter().map(|host| (host.place.clone(), host.port)).collect();
        assert_eq!(
            places,
            [
                (network("a", None), 1),
                (Place::Socket(SOCKET_DIRECTORY.into()), 5432),
                (Place::Socket("/tmp".into()), 3)
            ]
        );
        let target = resolved("host=a,b hostaddr=10.0.0.1,::1 port=9", &[]).unwrap();
        assert_eq!(target.hosts[1].place, network("b", Some("::1")));
        assert_eq!(target.hosts[1].port, 9);
        for wrong in
            ["host=a,b port=1,2,3", "host=a hostaddr=10.0.0.1,10.0.0.2", "port=x", "port=0", "hostaddr=db1"]
        {
            assert!(resolved(wrong, &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_host_has_its_own_password_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pass");
        fs::write(&file, "localhost:*:*:*:socket\nb:5432:d:os:word\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let variables = [("PGPASSFILE", file.to_str().unwrap())];
        let passwords = |text| {
            let target = resolved(text, &variables).unwrap();
            assert!(!format!("{target:?}").contains("word"), "{target:?}");
            target.hosts.into_iter().map(|host| host.password).collect::<Vec<_>>()
        };
        assert_eq!(passwords("host=,a,b dbname=d"), [Some("socket".into()), None, Some("word".into())]);
        assert_eq!(passwords("host=b dbname=d password=explicit"), [Some("explicit".into())]);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let target = resolved("host=b dbname=d", &variables).unwrap();
        assert_eq!((target.hosts[0].password.as_deref(), target.warnings.len()), (None, 1));
    }

    #[test]
    fn a_root_certificate_makes_require_look_at_it() {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment::new(&[], "os", dir.path());
        let verification = |text: &str| {
            let target = Target::resolve(Parameters::parse(text).unwrap(), &environment)?;
            Ok::<_, Error>(target.files.verification)
        };
        assert_eq!(verification("sslmode=require").unwrap(), Verification::None);
        assert!(verification("sslmode=verify-ca").is_err());
        assert!(verification("sslmode=verify-full").is_err());
        fs::create_dir(dir.path().join(".postgresql")).unwrap();
        let root = dir.path().join(".postgresql/root.crt");
        fs::write(&root, "").unwrap();
        assert_eq!(verification("sslmode=require").unwrap(), Verification::Authority(root.clone()));
        assert_eq!(verification("sslmode=verify-ca").unwrap(), Verification::Authority(root.clone()));
        assert_eq!(verification("sslmode=verify-full").unwrap(), Verification::Full(root));
        assert_eq!(verification("sslmode=disable").unwrap(), Verification::None);
        assert_eq!(verification("sslrootcert=system").unwrap(), Verification::System);
        assert!(verification("sslrootcert=system sslmode=require").is_err());
    }

    #[test]
    fn values_that_a_keyword_does_not_take_are_errors() {
        for wrong in [
            "sslmode=maybe",
            "target_session_attrs=nice",
            "channel_binding=x",
            "connect_timeout=soon",
            "keepalives_idle=x",
            "sslnegotiation=direct",
            "gssencmode=require",
        ] {
            assert!(resolved(wrong, &[]).is_err(), "{wrong}");
        }
        assert!(matches!(
            resolved("", &[("PGREQUIREAUTH", "scram-sha-256")]),
            Err(Error::Unsupported("require_auth"))
        ));
        for (text, seconds) in [("0", None), ("-1", None), ("1", Some(2)), ("9", Some(9))] {
            let target = resolved(&format!("connect_timeout={text}"), &[]).unwrap();
            assert_eq!(target.timeout, seconds.map(Duration::from_secs));
        }
    }
}
