//! Where results, messages and progress go.

use std::io::{self, IsTerminal as _, Read, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::CliError;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// The program's standard streams, and whether people are at their ends.
pub(crate) struct Output {
    pub(crate) out: Box<dyn Write>,
    pub(crate) err: Box<dyn Write>,
    pub(crate) input: Box<dyn Read>,
    pub(crate) out_is_terminal: bool,
    pub(crate) err_is_terminal: bool,
    pub(crate) input_is_terminal: bool,
    /// Results are the server's JSON.
    pub(crate) json: bool,
}

impl Output {
    /// The streams of this process.
    pub(crate) fn of_process(json: bool) -> Self {
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            input: Box::new(io::stdin()),
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal: io::stderr().is_terminal(),
            input_is_terminal: io::stdin().is_terminal(),
            json,
        }
    }

    /// Writes a result as it is.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out.write_all(bytes).and_then(|()| self.out.flush()).map_err(CliError::Output)
    }

    /// Writes a result that ends its line.
    pub(crate) fn line(&mut self, text: impl AsRef<[u8]>) -> Result<(), CliError> {
        let mut bytes = text.as_ref().to_vec();
        if bytes.last() != Some(&b'\n') {
            bytes.push(b'\n');
        }
        self.bytes(&bytes)
    }

    /// Tells a person something that is no result. Where nobody listens, nothing is lost.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.err, "{text}").and_then(|()| self.err.flush());
    }

    /// Everything on standard input.
    pub(crate) fn read_input(&mut self) -> Result<Vec<u8>, CliError> {
        let mut bytes = Vec::new();
        self.input.read_to_end(&mut bytes).map_err(CliError::Input)?;
        Ok(bytes)
    }

    /// One line of standard input.
    pub(crate) fn read_line(&mut self) -> Result<String, CliError> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while self.input.read(&mut byte).map_err(CliError::Input)? == 1 && byte != *b"\n" {
            line.extend(byte);
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Shows a person that something is going on.
    pub(crate) fn progress(&self, message: String) -> Progress {
        Progress::shown(self.err_is_terminal && !self.json, message)
    }
}

/// A turning spinner on standard error; it disappears on drop.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// Shows on this process' standard error that something is going on, if that is a terminal and the result is for
    /// people.
    #[must_use]
    pub fn start(json: bool, message: String) -> Self {
        Self::shown(io::stderr().is_terminal() && !json, message)
    }

    fn shown(shown: bool, message: String) -> Self {
        if !shown {
            return Self(None);
        }
        let spinner = ProgressBar::new_spinner().with_message(message);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(TICK);
        Self(Some(spinner))
    }

    /// Passes on what a build writes, beside the spinner or where there is none.
    pub(crate) fn log(&self, text: &str) {
        let write = || {
            // Nothing is left to do if standard error is closed.
            let _ = io::stderr().write_all(text.as_bytes());
        };
        match &self.0 {
            Some(spinner) => spinner.suspend(write),
            None => write(),
        }
    }

    /// Says what is going on now.
    pub fn set(&self, message: String) {
        if let Some(spinner) = &self.0 {
            spinner.set_message(message);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(spinner) = &self.0 {
            spinner.finish_and_clear();
        }
    }
}
