//! A worker's own random numbers: one cryptographic generator each, seeded once, so that neither a
//! request nor a new cookie costs a system call or meets another core.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

/// ChaCha12, as `rand` chooses for its standard generator: a client that sees seeds and trace ids
/// cannot tell what the next ones will be.
pub struct Random(ChaCha12Rng);

impl Random {
    /// Seeded from the operating system.
    ///
    /// # Errors
    /// When the system has no random bytes to give; nothing secret can be made then.
    pub fn from_system() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self(ChaCha12Rng::from_seed(seed)))
    }

    /// The same numbers each time, for tests and simulations that replay by seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(ChaCha12Rng::seed_from_u64(seed))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Maps 64 random bits evenly onto `0..bound` (Lemire's multiplication, whose bias at these bounds
/// is below one in 2^32). `bound` 0 gives 0.
pub fn below(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its state foretells every seed to come.
        f.write_str("Random")
    }
}
