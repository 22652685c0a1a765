//! The binary `headwater`: see `headwater::cli`.
//!
//! Not here: anything but the entry.

fn main() -> std::process::ExitCode {
    headwater::cli::main()
}
