//! The program: parse the command line, run the command, return its exit code.

use std::process::ExitCode;

// For each cache-line-aligned block of a connection and each of hyper's read buffers, the system's
// allocator takes a lock and a search: `docs/decisions/0001-allocator.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    stayput::main()
}
