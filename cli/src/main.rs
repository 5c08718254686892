//! `tock`, the command line of Tocktower.
//!
//! Everything is in the library, so that tests can reach it without starting a process: what can be
//! written, the parser of crontabs, the page of all commands. This file only hands over, and ends
//! the process with the code that the library gives.

fn main() -> std::process::ExitCode {
    tocktower_cli::main()
}
