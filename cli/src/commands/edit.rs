//! `tock task edit`: a task as YAML in the editor, and back.
//!
//! What was changed is checked before it is sent. If it is wrong the editor opens again with what
//! was written and the errors on top, as nothing is more tiresome than to type a change twice; if
//! it cannot be sent, the text stays in a file whose name is told.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use tempfile::NamedTempFile;
use tocktower_client::{FieldError, Task, json};

use super::{files, plan, warn, warn_if_stale};
use crate::args::task::Name;
use crate::context::Context;
use crate::failure::Outcome;

pub async fn run(args: Name, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let (namespace, name) = context.task_name(&args.task);
    let client = context.client()?;
    let present = client.get(&namespace, &name).await?;
    warn_if_stale(context.printer, present.stale);
    let present = present.value;
    anyhow::ensure!(
        !present.is_history(),
        "{namespace}/{name} has finished, and nothing is left of it to edit: make it anew with \
         `tock task create` or `tock task apply`"
    );
    let text = serde_yaml_ng::to_string(&json::spec(&present))?;
    let mut file = tempfile::Builder::new().prefix("tock-").suffix(".yaml").tempfile()?;
    file.write_all(text.as_bytes())?;
    let Some(wanted) = edit_until_good(file.path(), &namespace, &name)? else {
        context.printer.error("nothing was changed");
        return Ok(Outcome::Done);
    };
    let changes = plan::differences(&present, &wanted);
    if changes.is_empty() {
        context.printer.error("nothing was changed");
        return Ok(Outcome::Done);
    }
    match client.put(wanted, Some(present.revision())).await {
        Ok(written) => {
            warn(context.printer, &written.warnings);
            let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
            let line = format!("{namespace}/{name} changed: {}", paths.join(", "));
            context.printer.answer(&json::written(&written), |printer| printer.line(&line))?;
            Ok(Outcome::Done)
        }
        Err(error) => {
            let kept = keep(file)?;
            Err(anyhow::Error::new(error).context(format!("your change is kept in {kept}")))
        }
    }
}

/// The task that was written; `None` if the text was left as it was or emptied.
fn edit_until_good(path: &Path, namespace: &str, name: &str) -> anyhow::Result<Option<Task>> {
    let mut before = std::fs::read_to_string(path)?;
    loop {
        open_editor(path)?;
        let after = std::fs::read_to_string(path)?;
        if after == before || after.trim().is_empty() {
            return Ok(None);
        }
        match parse(&after, namespace, name) {
            Ok(task) => return Ok(Some(task)),
            Err(errors) => {
                before = with_errors(&after, &errors);
                std::fs::write(path, &before)?;
            }
        }
    }
}

fn parse(text: &str, namespace: &str, name: &str) -> Result<Task, Vec<FieldError>> {
    let wrong = |message: String| vec![FieldError { path: "file".to_owned(), message }];
    let mut values = files::documents(text).map_err(wrong)?;
    let (Some(value), true) = (values.pop(), values.is_empty()) else {
        return Err(wrong("one task is edited: leave one document".to_owned()));
    };
    let task = files::task(value, namespace)?;
    if (task.namespace(), task.name()) != (namespace, name) {
        let message = format!("an edit cannot rename {namespace}/{name}");
        return Err(vec![FieldError { path: "name".to_owned(), message }]);
    }
    Ok(task)
}

/// The text with the errors on top, in place of the errors of the round before.
fn with_errors(text: &str, errors: &[FieldError]) -> String {
    const MARK: &str = "#! ";
    let told = errors.iter().map(|error| format!("{MARK}{error}\n"));
    let kept = text.lines().filter(|line| !line.starts_with(MARK)).map(|line| format!("{line}\n"));
    told.chain(kept).collect()
}

fn open_editor(path: &Path) -> anyhow::Result<()> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // Through a shell, as `EDITOR='code --wait'` is common; the path is an argument of its own.
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(path)
        .status()
        .with_context(|| format!("the editor {editor:?} does not start"))?;
    anyhow::ensure!(status.success(), "the editor {editor:?} ended with {status}");
    Ok(())
}

fn keep(file: NamedTempFile) -> anyhow::Result<String> {
    let (_, path) = file.keep()?;
    Ok(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stand_on_top_and_take_the_place_of_older_ones() {
        let error = |message: &str| FieldError { path: "a".into(), message: message.into() };
        let once = with_errors("name: a\n", &[error("wrong")]);
        assert_eq!(once, "#! a: wrong\nname: a\n");
        assert_eq!(with_errors(&once, &[error("still")]), "#! a: still\nname: a\n");
    }

    #[test]
    fn an_edit_cannot_rename() {
        let text = "name: b\nschedules: [{every: 1m}]\naction: {noop: {}}\n";
        assert_eq!(parse(text, "default", "a").unwrap_err()[0].path, "name");
        assert_eq!(parse(text, "default", "b").unwrap().name(), "b");
    }
}
