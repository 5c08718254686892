//! Tasks in files: YAML or JSON, one or many in a file, files or folders.
//!
//! What `tock task list -o json` prints can be applied again, so a list under `items` is read, and
//! the server's own fields in it are not looked at. Every mistake of every file is collected before
//! anything is said or done.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use tocktower_client::{FieldError, Task, json};

/// The folder of a folder of a folder is deep enough for tasks; a link that goes round is not.
const DEPTH_MAX: usize = 16;

/// A task, and where it was read.
#[derive(Debug, Clone)]
pub struct Found {
    pub task: Task,
    /// `tasks/a.yaml, document 2`.
    pub place: String,
}

/// All tasks of `paths`, or everything that is wrong with them, with the place before each path.
pub fn read(
    paths: &[PathBuf],
    namespace: &str,
) -> anyhow::Result<Result<Vec<Found>, Vec<FieldError>>> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        for (place, text) in texts(path, 0)? {
            match documents(&text) {
                Err(reason) => errors.push(FieldError { path: place, message: reason }),
                Ok(values) => {
                    for (index, value) in values.iter().enumerate() {
                        let place = match values.len() {
                            1 => place.clone(),
                            _ => format!("{place}, task {}", index + 1),
                        };
                        match task(value.clone(), namespace) {
                            Ok(task) => found.push(Found { task, place }),
                            Err(wrong) => errors.extend(wrong.into_iter().map(|error| {
                                FieldError { path: format!("{place}: {}", error.path), ..error }
                            })),
                        }
                    }
                }
            }
        }
    }
    errors.extend(twins(&found));
    Ok(if errors.is_empty() { Ok(found) } else { Err(errors) })
}

/// One task; it needs a name, as a nameless one would be made anew each time.
pub fn task(mut value: Value, namespace: &str) -> Result<Task, Vec<FieldError>> {
    let nameless = value.get("name").is_none_or(Value::is_null);
    if let Some(fields) = value.as_object_mut()
        && fields.get("namespace").is_none_or(Value::is_null)
    {
        fields.insert("namespace".to_owned(), namespace.into());
    }
    let mut errors = match json::read_task(value) {
        Ok(task) if !nameless => return Ok(task),
        Ok(_) => Vec::new(),
        Err(errors) => errors,
    };
    if nameless {
        let message = "a task in a file needs a name, or each apply would make another".to_owned();
        errors.push(FieldError { path: "name".to_owned(), message });
    }
    Err(errors)
}

/// The documents of a text: each YAML document may be a task, a list, or an object with a list.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut values = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let value = Value::deserialize(document).map_err(|error| error.to_string())?;
        match value {
            Value::Null => {}
            Value::Array(items) => values.extend(items),
            Value::Object(mut fields) => match ["items", "tasks"].iter().find_map(|key| {
                fields.get(*key).is_some_and(Value::is_array).then(|| fields.remove(*key))?
            }) {
                Some(Value::Array(items)) => values.extend(items),
                _ => values.push(Value::Object(fields)),
            },
            other => values.push(other),
        }
    }
    Ok(values)
}

fn texts(path: &Path, depth: usize) -> anyhow::Result<Vec<(String, String)>> {
    let place = path.display().to_string();
    if place == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("the standard input")?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    if !path.is_dir() {
        let text = std::fs::read_to_string(path).with_context(|| place.clone())?;
        return Ok(vec![(place, text)]);
    }
    anyhow::ensure!(depth < DEPTH_MAX, "{place}: folders go deeper than {DEPTH_MAX}");
    let entries = std::fs::read_dir(path).with_context(|| place.clone())?;
    let mut inner = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| place.clone())?;
    inner.sort();
    let mut found = Vec::new();
    for path in inner {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() || matches!(extension, Some("yaml" | "yml" | "json")) {
            found.extend(texts(&path, depth + 1)?);
        }
    }
    Ok(found)
}

/// Tasks that are there twice: which of them is meant?
fn twins(found: &[Found]) -> Vec<FieldError> {
    let mut seen = std::collections::BTreeMap::new();
    let mut errors = Vec::new();
    for Found { task, place } in found {
        let name = format!("{}/{}", task.namespace(), task.name());
        if let Some(first) = seen.insert(name.clone(), place) {
            let message = format!("{name} is also in {first}");
            errors.push(FieldError { path: format!("{place}: name"), message });
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "name: a\nschedules: [{every: 1m}]\naction: {noop: {}}\n";

    #[test]
    fn documents_lists_and_answers_of_the_server_are_read() {
        let two = format!("{TASK}---\n{}---\n", TASK.replace("name: a", "name: b"));
        assert_eq!(documents(&two).unwrap().len(), 2);
        assert_eq!(documents(r#"[{"name": "a"}, {"name": "b"}]"#).unwrap().len(), 2);
        let list = r#"{"items": [{"name": "a"}], "next_cursor": null}"#;
        assert_eq!(documents(list).unwrap(), [serde_json::json!({"name": "a"})]);
        assert_eq!(documents("# nothing\n").unwrap().len(), 0);
        assert!(documents("a: [").is_err());
    }

    #[test]
    fn every_mistake_of_every_file_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.yaml", TASK);
        write("b.yml", &format!("{TASK}---\nname: c\nschedules: [{{cron: '60 * * * *'}}]\n"));
        write("c.json", r#"{"schedules": [{"every": "1m"}], "action": {"noop": {}}, "x": 1}"#);
        write("notes.txt", "not a task");
        let errors = read(&[folder.path().to_owned()], "ops").unwrap().unwrap_err();
        let told: Vec<String> =
            errors.iter().map(|error| error.path.rsplit('/').next().unwrap().to_owned()).collect();
        assert_eq!(
            told,
            [
                "b.yml, task 2: schedules[0].cron",
                "b.yml, task 2: action",
                "c.json: x",
                "c.json: name",
                "b.yml, task 1: name"
            ]
        );
    }

    #[test]
    fn tasks_without_a_namespace_go_where_the_command_says() {
        let task = task(documents(TASK).unwrap().remove(0), "ops").unwrap();
        assert_eq!((task.namespace(), task.name()), ("ops", "a"));
    }
}
