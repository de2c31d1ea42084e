//! The built program with one worker, on its own core if there are two.

use crate::origin::Origin;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A running balancer, ended on drop.
pub struct Balancer {
    child: Child,
    pub address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Balancer {
    /// Starts the balancer. `/deaf` leads to a target that accepts no connection.
    pub fn run(origin: &Origin, deaf: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stayput.toml");
        let health = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", \
                      passive = { connect_failures = 0 } }";
        let text = format!(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n\
             [log]\naccess = {{ to = \"access.log\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\n\
             [target_group.app]\ntargets = [{{ id = \"a\", address = \"{}\" }}]\n{health}\n\
             [target_group.deaf]\ntargets = [{{ id = \"a\", address = \"{deaf}\" }}]\n{health}\n\
             upstream = {{ timeouts = {{ connect = \"60s\" }} }}\n\
             [[rule]]\npaths = [\"/deaf\"]\nforward = \"deaf\"\n[[rule]]\nforward = \"app\"\n",
            origin.address
        );
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stayput"));
        command.arg("run").arg("-c").arg(path).env_remove("STAYPUT_CONFIG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // The process inherits the core of this thread.
        pin(0);
        let mut child = command.spawn().unwrap();
        pin(1);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("address=")));
        let line = line.expect("it says where it listens");
        let (_, address) = line.split_once("address=").unwrap();
        let address = address.split(' ').next().unwrap().parse().unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _dir: dir }
    }

    /// Memory in bytes.
    pub fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// CPU time used so far, in seconds.
    pub fn processor(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = text.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u32 = fields[11..13].iter().map(|field| field.parse::<u32>().unwrap()).sum();
        f64::from(ticks) / 100.0
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pins this thread, and the processes it starts, to one of two cores, if there are two.
pub fn pin(nth: usize) {
    thread_local! {
        static ALLOWED: CpuSet = sched_getaffinity(Pid::from_raw(0)).unwrap();
    }
    let cores: Vec<usize> = ALLOWED.with(|allowed| {
        (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect()
    });
    if cores.len() > 1 {
        let mut set = CpuSet::new();
        set.set(cores[nth]).unwrap();
        sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    }
}
