//! What libpq says a connection is, for tokio-postgres: connection strings and URIs, the environment, the service and the
//! password file, several hosts, and TLS by rustls. Relies on no libpq and no OpenSSL; promises that no password is in a
//! message, and that an option which it does not know how to honour is refused rather than left out.
//!
//! ```no_run
//! # async fn example() -> Result<(), rbytea_connect::Error> {
//! use rbytea_connect::{Environment, Parameters, Target};
//! let target = Target::resolve(Parameters::parse("postgresql://db1/archive")?, &Environment::of_process())?;
//! let session = target.connect(|notice| eprintln!("{notice}")).await?;
//! # Ok(()) }
//! ```

mod environment;
mod error;
mod parameters;
mod passfile;
mod service;
mod session;
pub mod sql;
mod target;
mod tls;

pub use environment::Environment;
pub use error::{Error, Failure};
pub use parameters::{Parameters, decode, is_connection_string};
pub use session::{Canceller, Session};
pub use target::Target;
