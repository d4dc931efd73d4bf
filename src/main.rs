//! The `linerate` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    linerate::cli::main(std::env::args_os()).into()
}
