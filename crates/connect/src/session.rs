//! Connecting: the hosts in turn, each with TLS and without it as `sslmode` says, until one answers that has the attributes
//! that were asked for.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode as Wire;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, SimpleQueryMessage};
use tokio_rustls::rustls::ClientConfig;

use crate::error::{Error, Failure, Why};
use crate::target::{Attributes, Host, Place, SslMode, Target};
use crate::tls::{self, Tls};

/// A connection. It is driven by a task of the runtime that made it, and closed when this is dropped.
pub struct Session {
    /// The client.
    pub client: Client,
    /// Asks the server to give up what this session runs.
    pub canceller: Canceller,
    driver: JoinHandle<()>,
}

impl Session {
    /// Waits until the connection is lost.
    pub async fn lost(&mut self) {
        // Ends with the connection, however that ends.
        let _ = (&mut self.driver).await;
    }

    /// Says good-bye, and waits until the connection is closed.
    pub async fn close(self) {
        let Self { client, driver, .. } = self;
        drop(client);
        // Ends with the connection, however that ends.
        let _ = driver.await;
    }
}

/// Cancels what a session runs, by a connection of its own.
#[derive(Clone)]
pub struct Canceller {
    token: CancelToken,
    tls: Tls,
}

impl Canceller {
    /// Sends the request. What it comes to shows in the statement that is being run.
    pub async fn cancel(&self) -> Result<(), tokio_postgres::Error> {
        self.token.cancel_query(self.tls.clone()).await
    }
}

impl Target {
    /// Connects; `notice` is given what the server has to tell meanwhile and later.
    pub async fn connect(&self, notice: fn(&DbError)) -> Result<Session, Error> {
        let tls = match self.ssl {
            SslMode::Disable => None,
            _ => Some(tls::configuration(&self.files)?),
        };
        let mut failures = Vec::new();
        if self.attributes == Attributes::PreferStandby {
            if let Some(session) =
                self.first(Attributes::Standby, tls.as_ref(), notice, &mut failures).await?
            {
                return Ok(session);
            }
            failures.clear();
        }
        let wanted = match self.attributes {
            Attributes::PreferStandby => Attributes::Any,
            wanted => wanted,
        };
        self.first(wanted, tls.as_ref(), notice, &mut failures).await?.ok_or(Error::Attempts(failures))
    }

    /// The first host that gives a connection.
    async fn first(
        &self,
        wanted: Attributes,
        tls: Option<&Arc<ClientConfig>>,
        notice: fn(&DbError),
        failures: &mut Vec<Failure>,
    ) -> Result<Option<Session>, Error> {
        for host in &self.hosts {
            match self.at(host, wanted, tls, notice).await? {
                Ok(session) => return Ok(Some(session)),
                Err(failure) => failures.push(failure),
            }
        }
        Ok(None)
    }

    /// One host, in the ways that `sslmode` allows. A socket of this machine has no TLS.
    async fn at(
        &self,
        host: &Host,
        wanted: Attributes,
        tls: Option<&Arc<ClientConfig>>,
        notice: fn(&DbError),
    ) -> Result<Result<Session, Failure>, Error> {
        let encrypted = match (&host.place, tls) {
            (Place::Network { name, .. }, Some(config)) => Some(Tls::to(Arc::clone(config), name)?),
            _ => None,
        };
        let Some(encrypted) = encrypted else {
            return Ok(self.attempt(host, Wire::Disable, Tls::none(), wanted, notice).await);
        };
        let (first, second) = match self.ssl {
            SslMode::Allow => (Wire::Disable, Some(Wire::Require)),
            SslMode::Prefer => (Wire::Prefer, Some(Wire::Disable)),
            _ => (Wire::Require, None),
        };
        let outcome = self.attempt(host, first, encrypted.clone(), wanted, notice).await;
        match (outcome, second) {
            (Err(failure), Some(second)) if may_differ(&failure) => {
                Ok(self.attempt(host, second, encrypted, wanted, notice).await.map_err(|_| failure))
            }
            (outcome, _) => Ok(outcome),
        }
    }

    async fn attempt(
        &self,
        host: &Host,
        wire: Wire,
        tls: Tls,
        wanted: Attributes,
        notice: fn(&DbError),
    ) -> Result<Session, Failure> {
        let failed = |why| Failure { host: host.to_string(), why };
        let connecting = async {
            let (client, mut connection) = self.config(host, wire).connect(tls.clone()).await?;
            let driver = tokio::spawn(async move {
                while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                    if let AsyncMessage::Notice(message) = message {
                        notice(&message);
                    }
                }
            });
            let objection = objection(&client, wanted).await?;
            Ok((
                Session { canceller: Canceller { token: client.cancel_token(), tls }, client, driver },
                objection,
            ))
        };
        let outcome = match self.timeout {
            Some(limit) => timeout(limit, connecting).await.map_err(|_| failed(Why::TimedOut))?,
            None => connecting.await,
        };
        match outcome {
            Ok((session, None)) => Ok(session),
            Ok((_, Some(objection))) => Err(failed(Why::Attributes(objection))),
            Err(error) => Err(failed(Why::Client(error))),
        }
    }

    fn config(&self, host: &Host, wire: Wire) -> Config {
        let mut config = Config::new();
        config.user(&self.user).dbname(&self.database).port(host.port).ssl_mode(wire);
        config.channel_binding(self.channel_binding).ssl_negotiation(self.negotiation);
        match &host.place {
            Place::Socket(directory) => config.host_path(directory),
            Place::Network { name, .. } => config.host(name),
        };
        if let Place::Network { address: Some(address), .. } = &host.place {
            config.hostaddr(*address);
        }
        if let Some(password) = &host.password {
            config.password(password);
        }
        if let Some(name) = &self.application {
            config.application_name(name);
        }
        if let Some(options) = &self.options {
            config.options(options);
        }
        config.keepalives(!self.keepalives.off);
        if let Some(idle) = self.keepalives.idle {
            config.keepalives_idle(idle);
        }
        if let Some(interval) = self.keepalives.interval {
            config.keepalives_interval(interval);
        }
        if let Some(count) = self.keepalives.count {
            config.keepalives_retries(count);
        }
        if let Some(limit) = self.keepalives.user_timeout {
            config.tcp_user_timeout(limit);
        }
        config
    }
}

/// Whether the other of two ways, with and without TLS, may come to something else: TLS itself has failed, or a rule of
/// pg_hba.conf has refused. A wrong password is wrong both ways.
fn may_differ(failure: &Failure) -> bool {
    match (&failure.why, failure.code()) {
        (_, Some(code)) => code.code() == "28000",
        (Why::Client(error), None) => !error.is_closed(),
        _ => false,
    }
}

/// Why the server is not the one that is wanted.
async fn objection(
    client: &Client,
    wanted: Attributes,
) -> Result<Option<&'static str>, tokio_postgres::Error> {
    if wanted == Attributes::Any {
        return Ok(None);
    }
    let query =
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')";
    let answer = client.simple_query(query).await?;
    let fields = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0) == Some("t"), row.get(1) == Some("on"))),
        _ => None,
    });
    let (standby, read_only) = fields.unwrap_or_default();
    Ok(match wanted {
        Attributes::ReadWrite if standby || read_only => Some("session is read-only"),
        Attributes::ReadOnly if !(standby || read_only) => Some("session is not read-only"),
        Attributes::Primary if standby => Some("server is in hot standby mode"),
        Attributes::Standby if !standby => Some("server is not in hot standby mode"),
        _ => None,
    })
}
