//! The last test target by name, and so the last that `cargo test` runs: prints how many tests did
//! not run and why. It is a program of its own because the harness shows a test's output only if it
//! fails.

// The output is for the person who runs the tests.
#![allow(clippy::print_stdout, clippy::expect_used, unreachable_pub)]

mod skips;

fn main() {
    // Tools that run each test by its name use `--list`; there is no test here.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    println!("\n{}\n", skips::take(skips::directory(), &skips::run()));
}
