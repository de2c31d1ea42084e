//! Random numbers of one worker: one cryptographic generator, seeded once, so that requests and new
//! cookies need no system call and share no state between cores.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

/// ChaCha12, the standard generator of `rand`: a client that sees seeds and trace ids cannot
/// predict the next ones.
pub struct Random(ChaCha12Rng);

impl Random {
    /// Seeds the generator from the operating system.
    ///
    /// # Errors
    /// If the system has no random bytes; no secret can be generated then.
    pub fn from_system() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self(ChaCha12Rng::from_seed(seed)))
    }

    /// Creates a generator with a fixed sequence, for tests and simulations that replay by seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(ChaCha12Rng::seed_from_u64(seed))
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The state would reveal all later seeds.
        f.write_str("Random")
    }
}
