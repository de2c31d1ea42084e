//! The core of the balancer, and the one that load generator and origin share.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The two cores of a measurement; the same one twice if the machine has no second.
pub(crate) struct Cores {
    pub(crate) balancer: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// The first two cores this process may use.
    pub(crate) fn choose() -> nix::Result<Self> {
        let allowed = sched_getaffinity(THIS_THREAD)?;
        let mut usable = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
        let balancer = usable.next().unwrap_or(0);
        Ok(Self { balancer, load: usable.next().unwrap_or(balancer) })
    }

    pub(crate) fn pin_to_load(&self) -> nix::Result<()> {
        pin_to(&[self.load])
    }

    /// Runs `start` on the balancer's core, or on both if it has two workers, so that a process
    /// started in it inherits them.
    pub(crate) fn on_balancer<T>(
        &self,
        workers: usize,
        start: impl FnOnce() -> T,
    ) -> nix::Result<T> {
        let both = [self.balancer, self.load];
        pin_to(&both[..workers.min(both.len())])?;
        let started = start();
        pin_to(&[self.load])?;
        Ok(started)
    }
}

const THIS_THREAD: Pid = Pid::from_raw(0);

fn pin_to(cores: &[usize]) -> nix::Result<()> {
    let mut only = CpuSet::new();
    for &core in cores {
        only.set(core)?;
    }
    sched_setaffinity(THIS_THREAD, &only)
}
