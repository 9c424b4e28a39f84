//! The life of a program: a command is run until it ends or a signal comes. Exit status: 0 if all is done, 1 if not, 2 if a check has found
//! something, 130 and 143 after SIGINT and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};

use crate::connection::{self, Connector};
use crate::error::Error;
use crate::progress::say;

/// How a run has ended.
pub enum End {
    /// All is done.
    Done,
    /// A check has found something.
    Found,
    /// Not all is done.
    Failed,
    /// A signal of this number has come.
    Interrupted(i32),
}

impl End {
    fn code(&self) -> i32 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Found => 2,
            Self::Interrupted(signal) => 128 + signal,
        }
    }
}

/// Runs a command of this program, and ends the process.
pub fn to_the_end(program: &str, command: impl AsyncFnOnce(&Connector) -> Result<End, Error>) -> ! {
    let end = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => {
            let end = runtime.block_on(interruptible(program, command));
            // A thread may still wait for standard input.
            runtime.shutdown_background();
            end
        }
        Err(error) => failed(program, &Error::said(error.to_string())),
    };
    std::process::exit(end.code())
}

/// Runs a command until it ends or a signal comes: then what it was doing is dropped, with its unfinished files and the
/// programs that it runs, and the server is asked to give up its statements.
async fn interruptible(program: &str, command: impl AsyncFnOnce(&Connector) -> Result<End, Error>) -> End {
    let connector = Connector::default();
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        return failed(program, &Error::said("could not wait for signals"));
    };
    let mut running = Box::pin(command(&connector));
    let number = tokio::select! {
        end = &mut running => return end.unwrap_or_else(|error| failed(program, &error)),
        _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
    };
    let sessions = connector.cancellers();
    drop(running);
    connection::cancel(sessions).await;
    End::Interrupted(number)
}

fn failed(program: &str, error: &Error) -> End {
    if !matches!(error, Error::Reported) {
        say(&format!("{program}: {error}"));
    }
    End::Failed
}
