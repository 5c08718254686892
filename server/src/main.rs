//! `tocktower`: the daemons. Everything is in the library, so that tests can run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tocktower_server::main()
}
