//! The configuration file: contexts, each of which says which servers, as whom, and where.
//!
//! ```toml
//! current = "lab"
//!
//! [contexts.lab]
//! servers = ["http://10.0.0.11:7080", "http://10.0.0.12:7080"]
//! token = "…"
//! namespace = "ops"
//! ```
//!
//! A file that is not there is an empty one; a key that is not known is an error, as a misspelt
//! `servers` would otherwise send commands to the wrong place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::args::Global;
use crate::failure::Usage;

#[derive(Deserialize, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The context to use when none is named.
    pub current: Option<String>,
    #[serde(default)]
    pub contexts: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    #[serde(default)]
    pub servers: Vec<String>,
    pub token: Option<String>,
    pub namespace: Option<String>,
}

/// What holds for one command, from flags, environment and file, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub servers: Vec<String>,
    pub token: Option<String>,
    pub namespace: String,
}

const SERVER: &str = "http://127.0.0.1:7080";
const NAMESPACE: &str = "default";

impl Settings {
    /// Reads the file that `global` names, or the usual one.
    pub fn load(global: &Global) -> Result<Settings, Usage> {
        let file = match (&global.config, usual_path()) {
            (Some(path), _) => read(path, true)?,
            (None, Some(path)) => read(&path, false)?,
            (None, None) => File::default(),
        };
        Settings::of(global, &file)
    }

    fn of(global: &Global, file: &File) -> Result<Settings, Usage> {
        let entry = match global.context.as_ref().or(file.current.as_ref()) {
            None => Entry::default(),
            Some(name) => file.contexts.get(name).cloned().ok_or_else(|| {
                let known: Vec<&str> = file.contexts.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Usage(format!("there is no context {name:?} in the configuration file ({known})"))
            })?,
        };
        let servers = [&global.server, &entry.servers].into_iter().find(|list| !list.is_empty());
        // A token belongs to its servers: it is not sent to others that a flag names.
        let own_token = entry.token.filter(|_| global.server.is_empty());
        Ok(Settings {
            servers: servers.cloned().unwrap_or_else(|| vec![SERVER.to_owned()]),
            token: global.token.clone().or(own_token),
            namespace: global
                .namespace
                .clone()
                .or(entry.namespace)
                .unwrap_or_else(|| NAMESPACE.to_owned()),
        })
    }
}

fn read(path: &Path, must_exist: bool) -> Result<File, Usage> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
            return Ok(File::default());
        }
        Err(error) => return Err(Usage(format!("{}: {error}", path.display()))),
    };
    toml::from_str(&text).map_err(|error| Usage(format!("{}: {error}", path.display())))
}

fn usual_path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = match set("XDG_CONFIG_HOME") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(set("HOME")?).join(".config"),
    };
    Some(base.join("tocktower").join("config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        toml::from_str(
            "current = 'lab'\n[contexts.lab]\nservers = ['http://a', 'http://b']\ntoken = 't'\n\
             namespace = 'ops'\n[contexts.home]\n",
        )
        .unwrap()
    }

    #[test]
    fn flags_win_over_the_context_and_the_context_over_defaults() {
        let settings = Settings::of(&Global::default(), &file()).unwrap();
        assert_eq!(settings.servers, ["http://a", "http://b"]);
        assert_eq!((settings.token.as_deref(), settings.namespace.as_str()), (Some("t"), "ops"));

        let global = Global { context: Some("home".into()), ..Global::default() };
        let settings = Settings::of(&global, &file()).unwrap();
        assert_eq!((settings.servers, settings.token), (vec![SERVER.to_owned()], None));
    }

    #[test]
    fn a_token_is_not_sent_to_servers_it_does_not_belong_to() {
        let global = Global { server: vec!["http://other".into()], ..Global::default() };
        assert_eq!(Settings::of(&global, &file()).unwrap().token, None);
    }

    #[test]
    fn misspelt_keys_and_unknown_contexts_are_errors() {
        assert!(toml::from_str::<File>("[contexts.lab]\nserver = 'http://a'\n").is_err());
        let global = Global { context: Some("x".into()), ..Global::default() };
        let error = Settings::of(&global, &file()).unwrap_err().to_string();
        assert!(error.contains("home, lab"), "{error}");
    }
}
