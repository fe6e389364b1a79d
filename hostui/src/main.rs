//! quantix-hostui, the program. What it does is in the library beside it, where fuzz targets reach it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    quantix_hostui::run(std::env::args().skip(1))
}
