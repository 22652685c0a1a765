//! The binary `headwater-loadtest`: see `headwater_loadtest::cli`.
//!
//! Not here: anything but the entry.

fn main() -> std::process::ExitCode {
    headwater_loadtest::cli::main()
}
