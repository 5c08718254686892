//! What every command needs: the client, the namespace of names without one, and the printer.
//!
//! The client is made when it is first asked for, so that commands which need no server (a dry run,
//! completions) work without one and without a word about its address. It is less patient than the
//! SDK is by itself: a person at a terminal should learn soon that nobody is there. What writes
//! much is patient again, once somebody has answered: an import of thousands of lines should not
//! end half way because etcd changes its leader.

use std::time::Duration;

use tocktower_client::{Client, ClientConfig, Error};

use crate::args::Global;
use crate::config::Settings;
use crate::failure::Usage;
use crate::print::Printer;
use crate::when::Clock;

/// A person at a terminal should learn soon that nobody is there.
const PATIENCE: Duration = Duration::from_secs(4);

pub struct Context<'a> {
    pub printer: &'a mut Printer,
    pub clock: Clock,
    settings: Settings,
    timeout: Duration,
    client: Option<Client>,
}

impl<'a> Context<'a> {
    pub fn new(global: &Global, printer: &'a mut Printer) -> Result<Context<'a>, Usage> {
        let settings = Settings::load(global)?;
        let clock = Clock::of_host();
        let timeout = global.request_timeout;
        Ok(Context { printer, clock, settings, timeout, client: None })
    }

    pub fn namespace(&self) -> &str {
        &self.settings.namespace
    }

    /// Who asks, where it is another than the context's own server that is asked.
    pub fn token(&self) -> Option<String> {
        self.settings.token.clone()
    }

    /// `name` or `<namespace>/<name>`.
    pub fn task_name(&self, given: &str) -> (String, String) {
        match given.split_once('/') {
            Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
            None => (self.settings.namespace.clone(), given.to_owned()),
        }
    }

    pub fn client(&mut self) -> Result<Client, Error> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = Client::connect(ClientConfig { patience: PATIENCE, ..self.config() })?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// For writing much: as patient as the SDK is by itself.
    pub fn patient_client(&self) -> Result<Client, Error> {
        Client::connect(self.config())
    }

    fn config(&self) -> ClientConfig {
        ClientConfig {
            servers: self.settings.servers.clone(),
            token: self.settings.token.clone(),
            timeout: self.timeout,
            ..ClientConfig::default()
        }
    }
}
