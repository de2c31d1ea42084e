//! Cost of a hundred hostile connections: memory of the balancer for each, and the latency of other
//! clients. Each measurement has a bound, and all together end within three minutes.
//!
//! Timing decides nothing: the exit code is 0 unless something could not run.
// A bench prints on standard output. A failed set-up ends it at that line.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, unreachable_pub)]
#![allow(clippy::disallowed_methods)]

#[cfg(target_os = "linux")]
mod attack;
#[cfg(target_os = "linux")]
mod balancer;
#[cfg(target_os = "linux")]
#[allow(dead_code)]
#[path = "../../tests/integration/support/frames.rs"]
mod frames;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod neighbours;
#[cfg(target_os = "linux")]
mod origin;

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("hostile: skipped, it reads memory from /proc and pins to cores, as Linux does");
}

#[cfg(target_os = "linux")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--attack", name, address] = text[..] {
        return attack::run(name, address.parse().unwrap());
    }
    if !text.contains(&"--bench") {
        return println!("hostile: nothing to do; run it with: cargo bench --bench hostile");
    }
    let wanted = text.iter().find(|text| !text.starts_with("--")).copied().unwrap_or_default();
    let (_, most) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most).unwrap();
    memory::run(wanted);
    neighbours::run(wanted);
}
