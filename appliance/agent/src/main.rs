//! quantixd, the program. What it does is in the library beside it, where fuzz targets reach it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    quantixd::run(std::env::args_os().skip(1))
}
