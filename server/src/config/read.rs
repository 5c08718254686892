//! Looks a key up in flag, environment and file, hands the text to the reader of its value, and
//! keeps what was wrong and what is in effect.
//!
//! Which keys a daemon has is known from what was asked for: whatever else stands in the file is
//! unknown, and refused by name when the reading ends. Nobody has to keep a list beside the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use toml::{Table, Value};

use super::problem::{Problem, Problems, Source};

/// The variables of the process's environment that concern us.
pub type Environment = BTreeMap<String, String>;

/// What a reader of values says when it refuses one: what is allowed.
pub type Allowed = String;

/// One key's text, as given. Lists may come as several.
struct Given {
    texts: Vec<String>,
    source: Source,
}

pub struct Reader {
    environment: Environment,
    file: Table,
    file_name: String,
    asked: BTreeSet<&'static str>,
    problems: Vec<Problem>,
    effective: Vec<(String, Source)>,
}

impl Reader {
    /// Reads the file, if there is one.
    pub fn open(file: Option<PathBuf>, environment: &Environment) -> Result<Reader, Problems> {
        let file_name = file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let table = match &file {
            None => Table::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| error.to_string())
                .and_then(|text| text.parse::<Table>().map_err(|error| error.to_string()))
                .map_err(|why| Problems(vec![Problem::File { file: file_name.clone(), why }]))?,
        };
        Ok(Reader {
            environment: environment.clone(),
            file: table,
            file_name,
            asked: BTreeSet::new(),
            problems: Vec::new(),
            effective: Vec::new(),
        })
    }

    /// Where programs of this user keep their data, by the XDG rules.
    pub fn data_home(&self) -> Option<PathBuf> {
        let set = |name: &str| self.environment.get(name).filter(|text| !text.is_empty());
        let home = || set("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        set("XDG_DATA_HOME").map(PathBuf::from).or_else(home)
    }

    /// A key that has a default. `None`: it was refused.
    pub fn value<T>(
        &mut self,
        key: &'static str,
        flag: &Option<String>,
        default: &str,
        read: impl Fn(&str) -> Result<T, Allowed>,
    ) -> Option<T> {
        let given = self
            .given(key, flag.as_slice())
            .unwrap_or_else(|| Given { texts: vec![default.to_owned()], source: Source::Default });
        self.read_one(key, &given, read)
    }

    /// A key that may be left out; then it is `None`, as when it was refused.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        flag: &Option<String>,
        read: impl Fn(&str) -> Result<T, Allowed>,
    ) -> Option<T> {
        let given = self.given(key, flag.as_slice())?;
        self.read_one(key, &given, read)
    }

    /// A list, empty if it is left out. Commas separate items.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        flag: &[String],
        read: impl Fn(&str) -> Result<T, Allowed>,
    ) -> Vec<T> {
        let Some(given) = self.given(key, flag) else {
            self.note(key, "[]", Source::Default);
            return Vec::new();
        };
        let mut items = Vec::new();
        let mut texts = Vec::new();
        for text in given.texts.iter().flat_map(|text| text.split(',')).map(str::trim) {
            match read(text) {
                Ok(item) => {
                    items.push(item);
                    texts.push(quoted(text));
                }
                Err(allowed) => self.refuse(key, text, &given.source, allowed),
            }
        }
        self.note(key, &format!("[{}]", texts.join(", ")), given.source);
        items
    }

    /// Refuses a value that is well formed but not allowed beside the others.
    pub fn refuse_as_given(&mut self, key: &'static str, allowed: String) {
        let prefix = format!("{key} = ");
        let line = self.effective.iter().find(|(line, _)| line.starts_with(&prefix));
        let Some((line, source)) = line.cloned() else { return };
        let value = line[prefix.len()..].trim_matches('"').to_owned();
        self.problems.push(Problem::Value {
            key: key.to_owned(),
            value,
            source_name: source,
            allowed,
        });
    }

    pub fn missing(&mut self, key: &'static str, allowed: &str) {
        self.problems.push(Problem::Missing { key, allowed: allowed.to_owned() });
    }

    /// Whether something was refused under this key.
    pub fn refused(&self, wanted: &str) -> bool {
        self.problems
            .iter()
            .any(|problem| matches!(problem, Problem::Value { key, .. } if key == wanted))
    }

    /// Every key was asked for: refuses the rest of the file; else tells what is in effect.
    pub fn finish(mut self) -> Result<String, Problems> {
        let known: Vec<&str> = self.asked.iter().copied().collect();
        let known = known.join(", ");
        for key in self.file.keys().filter(|key| !self.asked.contains(key.as_str())) {
            let file = self.file_name.clone();
            self.problems.push(Problem::Unknown { key: key.clone(), file, known: known.clone() });
        }
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        let width = self.effective.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (line, source) in &self.effective {
            let written = writeln!(text, "{line:width$}  # {source}");
            written.expect("writing to a string does not fail");
        }
        Ok(text)
    }

    fn read_one<T>(
        &mut self,
        key: &'static str,
        given: &Given,
        read: impl Fn(&str) -> Result<T, Allowed>,
    ) -> Option<T> {
        let [text] = given.texts.as_slice() else {
            let all = given.texts.join(", ");
            self.refuse(key, &all, &given.source, "one value is allowed, not a list".to_owned());
            return None;
        };
        match read(text) {
            Ok(value) => {
                // As TOML writes numbers: an agent may be named 007, which is none of them.
                let number = text.parse::<i64>().is_ok_and(|number| number.to_string() == *text);
                let bare = number || text.parse::<bool>().is_ok();
                let shown = if bare { text.clone() } else { quoted(text) };
                self.note(key, &shown, given.source.clone());
                Some(value)
            }
            Err(allowed) => {
                self.refuse(key, text, &given.source, allowed);
                None
            }
        }
    }

    fn given(&mut self, key: &'static str, flag: &[String]) -> Option<Given> {
        self.asked.insert(key);
        if !flag.is_empty() {
            let source = Source::Flag(format!("--{key}"));
            return Some(Given { texts: flag.to_vec(), source });
        }
        let variable = variable_of(key);
        if let Some(text) = self.environment.get(&variable) {
            return Some(Given {
                texts: vec![text.clone()],
                source: Source::Environment(variable),
            });
        }
        let source = Source::File(self.file_name.clone());
        match texts_of(self.file.get(key)?) {
            Ok(texts) => Some(Given { texts, source }),
            Err(value) => {
                let allowed = "a text, a number, true, false or a list of texts is allowed";
                self.refuse(key, &value, &source, allowed.to_owned());
                None
            }
        }
    }

    fn refuse(&mut self, key: &str, value: &str, source: &Source, allowed: Allowed) {
        let (key, value, source_name) = (key.to_owned(), value.to_owned(), source.clone());
        self.problems.push(Problem::Value { key, value, source_name, allowed });
    }

    fn note(&mut self, key: &str, value: &str, source: Source) {
        self.effective.push((format!("{key} = {value}"), source));
    }
}

/// `lease-ttl` is `TOCKTOWER_LEASE_TTL`.
pub fn variable_of(key: &str) -> String {
    format!("TOCKTOWER_{}", key.to_uppercase().replace('-', "_"))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The texts of a value of the file; a table of texts is a list of `key=value`.
fn texts_of(value: &Value) -> Result<Vec<String>, String> {
    let text_of = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Boolean(truth) => Ok(truth.to_string()),
        other => Err(other.to_string()),
    };
    match value {
        Value::Array(items) => items.iter().map(text_of).collect(),
        Value::Table(pairs) => pairs
            .iter()
            .map(|(key, value)| text_of(value).map(|text| format!("{key}={text}")))
            .collect(),
        single => text_of(single).map(|text| vec![text]),
    }
}
