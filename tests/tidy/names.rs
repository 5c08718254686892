//! Names that code gives to the outside, read from the code: daemons, configuration keys, metrics.

use syn::{Attribute, Fields, Item};

use crate::repo::{Repo, is_test};
use crate::source::{Source, Word};

/// Where the daemons' command line is.
const ARGS: &str = "server/src/args.rs";
/// Flags that are no keys: they say what to do with the keys.
const NO_KEYS: [&str; 2] = ["config", "check"];

/// A key, and the line that it is declared on.
pub struct Key {
    pub name: String,
    pub line: usize,
}

pub struct Metric {
    pub file: String,
    pub line: usize,
    /// Without the suffixes that the exposition format adds.
    pub name: String,
}

pub fn args_file() -> &'static str {
    ARGS
}

fn items(repo: &Repo) -> Vec<Item> {
    let text = repo.source(ARGS);
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{ARGS}: {error}")).items
}

/// The subcommands of `tocktower`.
pub fn daemons(repo: &Repo) -> Vec<String> {
    let variants = items(repo).into_iter().find_map(|item| match item {
        Item::Enum(item) if item.ident == "Daemon" => Some(item.variants),
        _ => None,
    });
    let variants = variants.unwrap_or_else(|| panic!("{ARGS} has no enum Daemon"));
    variants.iter().map(|variant| variant.ident.to_string().to_lowercase()).collect()
}

/// The fields of the structs there that are flags, as they are written on the command line.
pub fn keys(repo: &Repo) -> Vec<Key> {
    let mut keys = Vec::new();
    for item in items(repo) {
        let Item::Struct(item) = item else { continue };
        let Fields::Named(fields) = item.fields else { continue };
        for field in fields.named.iter().filter(|field| field.attrs.iter().any(is_flag)) {
            let Some(ident) = &field.ident else { continue };
            let name = ident.to_string().replace('_', "-");
            if !NO_KEYS.contains(&name.as_str()) {
                keys.push(Key { name, line: ident.span().start().line });
            }
        }
    }
    keys
}

fn is_flag(attribute: &Attribute) -> bool {
    let list = attribute.meta.require_list();
    attribute.path().is_ident("arg")
        && list.is_ok_and(|list| list.tokens.to_string().contains("long"))
}

/// What registers a metric under the literal that comes first: the calls of `prometheus-client`,
/// and methods of ours that stand before them where a table of names is read on demand.
const REGISTER: [&str; 7] =
    ["register", "register_with_unit", "count", "bytes", "time", "total", "total_bytes"];

/// What is registered under a literal name in a registry of `prometheus-client`.
pub fn metrics(repo: &Repo) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for file in repo.ending(".rs").filter(|file| !is_test(file)) {
        let text = repo.source(file);
        if !text.contains("prometheus_client") {
            continue;
        }
        let source = Source::read(file, &text);
        let words = source.words_without_tests();
        let prefix = after(&words, &["with_prefix"]).into_iter().next();
        let prefix = prefix.map(|(name, _)| format!("{name}_")).unwrap_or_default();
        metrics.extend(after(&words, &REGISTER).into_iter().map(|(name, line)| Metric {
            file: file.to_owned(),
            line,
            name: format!("{prefix}{name}"),
        }));
    }
    metrics
}

/// The literals that come first in calls of these functions.
fn after(words: &[&Word], calls: &[&str]) -> Vec<(String, usize)> {
    let literal = |text: &str| text.strip_prefix('"')?.strip_suffix('"').map(str::to_owned);
    words
        .windows(3)
        .filter(|three| calls.contains(&three[0].text.as_str()) && three[1].text == "(")
        .filter_map(|three| Some((literal(&three[2].text)?, three[0].line)))
        .collect()
}
