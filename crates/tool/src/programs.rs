//! PostgreSQL's own programs: where they are, the connection and the settings that they are given, and their end.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::connection::{ConnectionOptions, Connector};
use crate::error::Error;

/// A program beside this one, otherwise one of PATH.
fn path(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| name.into())
}

/// A program that connects as these options say and as the first connection was made, with these settings in its sessions.
pub fn command(
    name: &str,
    connection: &ConnectionOptions,
    connector: &Connector,
    settings: &[(&str, &str)],
) -> Result<Command, Error> {
    let mut command = Command::new(path(name));
    let said = connection.parameters()?;
    if let Some(password) = connector.password().or_else(|| said.get("password").map(str::to_owned)) {
        // Not on the command line, which a list of processes shows.
        command.env("PGPASSWORD", password);
    }
    let own: Vec<_> = settings.iter().map(|(name, value)| format!("-c {name}={}", escaped(value))).collect();
    let before = said.get("options").map(str::to_owned).or_else(|| std::env::var("PGOPTIONS").ok());
    let options: Vec<_> = before.into_iter().filter(|options| !options.is_empty()).chain(own).collect();
    let mut given = said.clone();
    if said.get("options").is_some() {
        given.set("options", &options.join(" "))?;
    } else {
        command.env("PGOPTIONS", options.join(" "));
    }
    let connection_string = given.without_password();
    if !connection_string.is_empty() {
        command.arg("-d").arg(connection_string);
    }
    // The user has been asked already, if he had to be.
    command.arg("-w");
    Ok(command)
}

/// A value in PGOPTIONS: spaces and backslashes follow a backslash.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for c in value.chars() {
        if c.is_whitespace() || c == '\\' {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// A program that is running: dropped, it is asked to end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // It may have ended meanwhile; `id` is none once its end was waited for.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// Runs a program to its end; an error if it is not a success.
pub async fn run(mut command: Command) -> Result<(), Error> {
    let name = command.as_std().get_program().to_owned();
    let shown = |name: &OsStr| PathBuf::from(name).file_name().unwrap_or(name).to_string_lossy().into_owned();
    let child =
        command.spawn().map_err(|error| Error::said(format!("could not run {}: {error}", shown(&name))))?;
    let mut running = Running(child);
    let status: ExitStatus =
        running.0.wait().await.map_err(|error| Error::said(format!("{}: {error}", shown(&name))))?;
    if status.success() { Ok(()) } else { Err(Error::said(format!("{} has failed: {status}", shown(&name)))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_options_are_escaped() {
        assert_eq!(escaped(r"/a b\c"), r"/a\ b\\c");
    }
}
