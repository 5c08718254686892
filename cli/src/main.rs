//! `tock`, the command line of Tocktower. Everything is in the library, so that tests can reach it.

fn main() -> std::process::ExitCode {
    tocktower_cli::main()
}
