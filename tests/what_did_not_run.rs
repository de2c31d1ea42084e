//! The last test target by its name, and so the last that `cargo test` runs: says how many tests did
//! not run and why. It is a program of its own, since a test's words are shown only where it fails.

// It speaks to who runs the tests.
#![allow(clippy::print_stdout, clippy::expect_used, unreachable_pub)]

mod skips;

fn main() {
    // `--list` is asked by tools that would run each test by its name, and there is none.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    println!("\n{}\n", skips::take(skips::directory(), &skips::run()));
}
