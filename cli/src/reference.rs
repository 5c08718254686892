//! The help of every command as one page of Markdown.
//!
//! The page is made from what clap knows, so it cannot say anything else than `--help` does; it is
//! checked in, and a test fails when it is out of date.

use clap::{Command, CommandFactory};

use crate::args::Cli;

/// Help texts have this width, whatever the terminal.
const WIDTH: usize = 100;

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(
        "# `tock`\n\nThe command line of Tocktower. Made from `tock --help`; do not edit.\n",
    );
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    section(&mut page, &mut root, "tock");
    page
}

fn section(page: &mut String, command: &mut Command, path: &str) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!(
        "\n## `{path}`\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    ));
    let names: Vec<String> = command
        .get_subcommands()
        .map(|inner| inner.get_name().to_owned())
        .filter(|name| name != "help")
        .collect();
    for name in names {
        if let Some(inner) = command.find_subcommand_mut(&name) {
            section(page, inner, &format!("{path} {name}"));
        }
    }
}
