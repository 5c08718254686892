//! What a run does: a command on the agent's host, or an HTTP request.
//!
//! Both are thin layers over their messages on the wire. A command is a program with its arguments
//! unless a shell is asked for by name, so that no quoting rule lies between the caller and the
//! process.

use std::ops::RangeInclusive;

use tocktower_proto::v1;

/// A command on the agent's host.
///
/// ```
/// use tocktower_client::Command;
///
/// let backup = Command::new(["/usr/local/bin/backup", "--all"]).env("LEVEL", "3").user("backup");
/// let report = Command::shell("du -sh /srv | mail -s usage root").success_codes([0, 1]);
/// # let _ = (backup, report);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Command(v1::Command);

impl Command {
    /// A program and its arguments; no shell reads them.
    pub fn new<I: IntoIterator<Item: Into<String>>>(argv: I) -> Command {
        let args = argv.into_iter().map(Into::into).collect();
        let program = v1::command::Program::Argv(v1::Argv { args });
        Command(v1::Command { program: Some(program), ..v1::Command::default() })
    }

    /// A line for `/bin/sh -c`.
    pub fn shell(line: impl Into<String>) -> Command {
        let program = v1::command::Program::Shell(line.into());
        Command(v1::Command { program: Some(program), ..v1::Command::default() })
    }

    /// One more variable; the command has no others but the agent's `PATH`.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Command {
        self.0.env.insert(name.into(), value.into());
        self
    }

    /// The working directory; left out: `/`.
    pub fn cwd(mut self, directory: impl Into<String>) -> Command {
        self.0.cwd = Some(directory.into());
        self
    }

    /// As whom it runs; left out: the agent's own user.
    pub fn user(mut self, user: impl Into<String>) -> Command {
        self.0.user = Some(user.into());
        self
    }

    /// What it reads; left out: nothing.
    pub fn stdin(mut self, text: impl Into<String>) -> Command {
        self.0.stdin = Some(text.into());
        self
    }

    /// Exit codes that count as success; left out: 0.
    pub fn success_codes(mut self, codes: impl IntoIterator<Item = i32>) -> Command {
        self.0.success_codes = codes.into_iter().collect();
        self
    }
}

impl From<Command> for v1::Command {
    fn from(command: Command) -> v1::Command {
        command.0
    }
}

impl<const N: usize, T: Into<String>> From<[T; N]> for Command {
    fn from(argv: [T; N]) -> Command {
        Command::new(argv)
    }
}

impl<T: Into<String>> From<Vec<T>> for Command {
    fn from(argv: Vec<T>) -> Command {
        Command::new(argv)
    }
}

/// An HTTP request.
///
/// ```
/// use tocktower_client::Http;
///
/// let ping = Http::get("https://example.com/ping").success(200..=204);
/// let order = Http::post("https://example.com/orders").header("x-kind", "nightly").body("{}");
/// # let _ = (ping, order);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Http(v1::Http);

impl Http {
    /// With any method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Http {
        Http(v1::Http { method: method.into(), url: url.into(), ..v1::Http::default() })
    }

    pub fn get(url: impl Into<String>) -> Http {
        Http::new("GET", url)
    }

    pub fn post(url: impl Into<String>) -> Http {
        Http::new("POST", url)
    }

    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Http {
        self.0.headers.insert(name.into(), value.into());
        self
    }

    pub fn body(mut self, body: impl Into<String>) -> Http {
        self.0.body = Some(body.into());
        self
    }

    /// One more range of statuses that count as success; left out: 200 to 299.
    pub fn success(mut self, status: RangeInclusive<u16>) -> Http {
        let (first, last) = (u32::from(*status.start()), u32::from(*status.end()));
        self.0.success_status.push(v1::StatusRange { first, last });
        self
    }
}

impl From<Http> for v1::Http {
    fn from(http: Http) -> v1::Http {
        http.0
    }
}
