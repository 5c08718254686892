//! The schema that OpenAPI is made from says what the converter does.

use tocktower_proto::json::{Schedule, Task};
use utoipa::PartialSchema;

#[test]
fn a_schema_names_defaults_words_and_allows_nothing_else() {
    let task = serde_json::to_value(Task::schema()).expect("a schema is JSON");
    assert_eq!(task["additionalProperties"], false);
    assert_eq!(task["properties"]["overlap"]["default"], "skip");
    assert_eq!(task["properties"]["namespace"]["default"], "default");
    assert_eq!(task["properties"]["revision"]["readOnly"], true);
    assert!(task["properties"]["overlap"].to_string().contains("Overlap"), "{task}");
    let schedule = serde_json::to_value(Schedule::schema()).expect("a schema is JSON");
    assert_eq!(schedule["additionalProperties"], false);
    assert_eq!(schedule["properties"]["dialect"]["default"], "crontab");
    assert_eq!(schedule["properties"]["at"]["format"], "date-time");
}
