//! How far something has come: a bar on a terminal, otherwise a line every few seconds. All of it, and every message, goes to
//! standard error.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::human;
use crate::lock::locked;

/// The pause between two lines where there is no terminal.
const LINES: Duration = Duration::from_secs(5);

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A line on standard error, above the bar if there is one.
pub fn say(text: &str) {
    // Where nobody listens there is nothing to say.
    BARS.suspend(|| drop(writeln!(std::io::stderr(), "{text}")));
}

/// What is counted: files with their bytes, or rows.
pub struct Progress {
    bar: Option<ProgressBar>,
    lines: Option<Mutex<Instant>>,
    start: Instant,
    unit: &'static str,
    /// Bytes, or things if they have none.
    measure: Measure,
    total: Option<(u64, u64)>,
    things: AtomicU64,
    bytes: AtomicU64,
}

/// What the bar's length is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Bytes.
    Bytes,
    /// Files or rows.
    Things,
}

impl Progress {
    /// Of `total` things and bytes, if that is known; `unit` names several things.
    pub fn new(quiet: bool, unit: &'static str, measure: Measure, total: Option<(u64, u64)>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            let length = total.map(|(things, bytes)| if measure == Measure::Bytes { bytes } else { things });
            let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
            let template = match (measure, total) {
                (Measure::Bytes, Some(_)) => {
                    "{msg}[{bar:30}] {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left"
                }
                (Measure::Bytes, None) => "{msg}{bytes}  {bytes_per_sec}",
                (Measure::Things, _) => "{msg}[{bar:30}] {percent} %  {eta} left",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            BARS.add(bar)
        });
        let start = Instant::now();
        Self {
            bar,
            lines: (!terminal && !quiet).then(|| Mutex::new(start)),
            start,
            unit,
            measure,
            total,
            things: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// So many bytes more.
    pub fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
        if let Some(bar) = self.bar.as_ref().filter(|_| self.measure == Measure::Bytes) {
            bar.inc(count);
        }
        self.tell();
    }

    /// So many bytes have to come once more.
    pub fn take_back(&self, count: u64) {
        self.bytes.fetch_sub(count, Ordering::Relaxed);
        if let Some(bar) = self.bar.as_ref().filter(|_| self.measure == Measure::Bytes) {
            bar.set_position(bar.position().saturating_sub(count));
        }
    }

    /// So many things more are done.
    pub fn add_things(&self, count: u64) {
        self.things.fetch_add(count, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            if self.measure == Measure::Things {
                bar.inc(count);
            }
            if self.total.is_none_or(|(things, _)| things > 1) {
                bar.set_message(format!("{}  ", self.things_done()));
            }
        }
        self.tell();
    }

    /// Takes the bar away; how much time it was.
    pub fn end(&self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.start.elapsed()
    }

    fn things_done(&self) -> String {
        let done = self.things.load(Ordering::Relaxed);
        match self.total {
            Some((total, _)) => format!("{done} of {total} {}", self.unit),
            None => format!("{done} {}", self.unit),
        }
    }

    /// The line, if it is time for one.
    fn tell(&self) {
        let Some(last) = &self.lines else { return };
        let mut last = locked(last);
        if last.elapsed() < LINES {
            return;
        }
        *last = Instant::now();
        say(&self.line());
    }

    fn line(&self) -> String {
        let elapsed = self.start.elapsed();
        let bytes = self.bytes.load(Ordering::Relaxed);
        let things = self.things.load(Ordering::Relaxed);
        let (done, total) = match (self.measure, self.total) {
            (Measure::Bytes, total) => (bytes, total.map(|(_, bytes)| bytes)),
            (Measure::Things, total) => (things, total.map(|(things, _)| things)),
        };
        let mut parts = Vec::new();
        if self.measure == Measure::Things || self.total.is_none_or(|(things, _)| things > 1) {
            parts.push(self.things_done());
        }
        if self.measure == Measure::Bytes {
            parts.push(match total {
                Some(total) => format!("{} of {}", human::bytes(bytes), human::bytes(total)),
                None => human::bytes(bytes),
            });
            parts.push(human::rate(bytes, elapsed));
        }
        if let Some(total) = total.filter(|_| done > 0) {
            let left =
                u128::from(elapsed.as_secs()) * u128::from(total.saturating_sub(done)) / u128::from(done);
            parts.push(format!("{} left", human::span(u64::try_from(left).unwrap_or(u64::MAX))));
        }
        parts.join(", ")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_is_done_and_what_is_left() {
        let files = Progress::new(true, "files", Measure::Bytes, Some((2, 4096)));
        files.add_bytes(3072);
        files.take_back(1024);
        files.add_things(1);
        let line = files.line();
        assert!(line.starts_with("1 of 2 files, 2.0 KiB of 4.0 KiB, ") && line.ends_with(" left"), "{line}");
        let unknown = Progress::new(true, "files", Measure::Bytes, None);
        assert!(unknown.line().starts_with("0 files, 0 bytes, "), "{}", unknown.line());
        let rows = Progress::new(true, "rows", Measure::Things, Some((10, 0)));
        rows.add_things(5);
        assert_eq!(rows.line(), "5 of 10 rows, 0 s left");
    }
}
