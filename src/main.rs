//! The program: parse the command line, run the command, turn its result into an exit code.

use std::process::ExitCode;

// The system's allocator takes a lock and a search for each of a connection's cache-line-aligned
// blocks and for each of hyper's read buffers: `docs/decisions/0001-allocator.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    stayput::cli::main()
}
