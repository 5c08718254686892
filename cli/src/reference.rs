//! The help of every command as one page of Markdown.
//!
//! The page is made from what clap knows, so it cannot say anything else than `--help` does; it is
//! checked in, and a test fails when it is out of date. Options that every command takes are shown
//! once, and values of the environment never, as they are those of whoever made the page.

use clap::{Arg, Command, CommandFactory};

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
    let root = root.mut_args(|arg| arg.hide_env_values(true));
    section(&mut page, root, "tock");
    page
}

fn section(page: &mut String, mut command: Command, path: &str) {
    let help = command.render_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("\n## `{path}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        let path = format!("{path} {}", inner.get_name());
        let shown_once = |arg: Arg| {
            let global = arg.is_global_set();
            arg.hide(global).hide_env_values(true)
        };
        section(page, inner.clone().mut_args(shown_once), &path);
    }
}
