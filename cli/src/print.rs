//! The only place that writes to the terminal.
//!
//! Answers go to the standard output in the form that was asked for; errors, warnings and progress
//! go to the standard error, so that a script reads nothing but the answer. Writing can fail (a
//! closed pipe, a full disk), which is why nothing here is `println!`.

use std::io::{self, IsTerminal, Write};

use comfy_table::Table;
use serde::Serialize;

use crate::args::Output;

/// Where answers and errors go.
pub struct Printer {
    form: Output,
    out: Box<dyn Write>,
    errors: Box<dyn Write>,
    terminal: bool,
}

impl Printer {
    /// Writes to the outputs of this process.
    pub fn of_process(form: Output) -> Printer {
        Printer {
            form,
            out: Box::new(io::stdout()),
            errors: Box::new(io::stderr()),
            terminal: io::stderr().is_terminal() && io::stdin().is_terminal(),
        }
    }

    /// Writes to where a test can read it.
    pub fn to(form: Output, out: Box<dyn Write>, errors: Box<dyn Write>) -> Printer {
        Printer { form, out, errors, terminal: false }
    }

    pub fn form(&self) -> Output {
        self.form
    }

    /// Somebody sits there who can be asked.
    pub fn is_interactive(&self) -> bool {
        self.terminal
    }

    /// An answer: `value` for scripts, what `people` prints for people.
    pub fn answer<T: Serialize>(
        &mut self,
        value: &T,
        people: impl FnOnce(&mut Printer) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        match self.form {
            Output::Table => people(self)?,
            Output::Json => {
                serde_json::to_writer_pretty(&mut self.out, value)?;
                writeln!(self.out)?;
            }
            Output::Yaml => self.out.write_all(serde_yaml_ng::to_string(value)?.as_bytes())?,
        }
        Ok(self.out.flush()?)
    }

    /// One of a stream of answers: a line of JSON, a YAML document, or what `people` prints.
    pub fn event<T: Serialize>(
        &mut self,
        value: &T,
        people: impl FnOnce(&mut Printer) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        match self.form {
            Output::Table => people(self)?,
            Output::Json => {
                serde_json::to_writer(&mut self.out, value)?;
                writeln!(self.out)?;
            }
            Output::Yaml => {
                writeln!(self.out, "---")?;
                self.out.write_all(serde_yaml_ng::to_string(value)?.as_bytes())?;
            }
        }
        Ok(self.out.flush()?)
    }

    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        // The layout pads the last column, too; nobody wants those blanks in a copied line.
        for line in table.to_string().lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Bytes as they are, at once.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// A line on the standard error. There is nobody left to tell if that fails.
    pub fn error(&mut self, text: &str) {
        let _ = writeln!(self.errors, "{text}");
    }
}
