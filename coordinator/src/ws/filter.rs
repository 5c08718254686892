//! What a socket wants to see, from its address or from a message.
//!
//! Both say the same things and are refused in the same words. In an address a list comes as
//! several parameters or with commas, in a message as an array, whose items may hold commas too.
//! A message that is wrong leaves the filter as it was, and the socket open: the error is an answer
//! like any other.

use serde::Deserialize;
use tocktower_core::ids::{Name, NameError, Namespace};

use crate::feed::{Filter, Kinds};
use crate::rest::{Call, Failure, labels, parse, read};

/// The namespace that means all of them.
const ALL_NAMESPACES: &str = "-";

/// `{"type":"filter","namespace":"…","task":"…","label":["key=value"],"kinds":["run"]}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FilterMessage {
    #[serde(rename = "type")]
    kind: String,
    namespace: Option<String>,
    task: Option<String>,
    label: Vec<String>,
    kinds: Vec<String>,
}

pub fn of_query(call: &Call) -> Result<Filter, Failure> {
    let query = call.query(&["namespace", "task", "label", "kinds"])?;
    filter(query.text("namespace")?, query.text("task")?, query.all("label"), query.all("kinds"))
}

pub fn of_message(text: &str) -> Result<Filter, Failure> {
    let message: FilterMessage = read(parse("the message", text.as_bytes())?)?;
    if message.kind != "filter" {
        let given = message.kind;
        return Err(Failure::bad("type", format!("{given:?}; the one message there is: filter")));
    }
    // As in the address, a list may come as several or with commas.
    let split = |list: &'_ [String]| -> Vec<String> {
        let parts = list.iter().flat_map(|text| text.split(','));
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let (label, kinds) = (split(&message.label), split(&message.kinds));
    filter(
        message.namespace.as_deref(),
        message.task.as_deref(),
        label.iter().map(String::as_str).collect(),
        kinds.iter().map(String::as_str).collect(),
    )
}

fn filter(
    namespace: Option<&str>,
    task: Option<&str>,
    label: Vec<&str>,
    kinds: Vec<&str>,
) -> Result<Filter, Failure> {
    let given = |text: &&str| !text.is_empty();
    let namespace = namespace.filter(|text| *text != ALL_NAMESPACES).filter(given);
    let wrong = |path: &'static str| move |error: NameError| Failure::bad(path, error.to_string());
    Ok(Filter {
        kinds: wanted(kinds)?,
        namespace: namespace.map(Namespace::parse).transpose().map_err(wrong("namespace"))?,
        task: task.filter(given).map(Name::parse).transpose().map_err(wrong("task"))?,
        labels: labels("label", label)?,
    })
}

fn wanted(kinds: Vec<&str>) -> Result<Kinds, Failure> {
    if kinds.is_empty() {
        return Ok(Kinds::ALL);
    }
    let mut wanted = Kinds { run: false, task: false, agent: false };
    for kind in kinds {
        match kind {
            "run" => wanted.run = true,
            "task" => wanted.task = true,
            "agent" => wanted.agent = true,
            other => {
                let message = format!("{other:?}; allowed is run, task, agent");
                return Err(Failure::bad("kinds", message));
            }
        }
    }
    Ok(wanted)
}
