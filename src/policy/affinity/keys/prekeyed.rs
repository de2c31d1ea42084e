//! HMAC-SHA-256 (RFC 2104) with the key's blocks already hashed: a short message then takes two
//! hash blocks. `hmac` clones its state with its buffers for each code, which costs as much as both
//! blocks. A token needs several codes, so this module calls the compression function directly;
//! tests compare it with `hmac`.

use sha2::block_api::compress256;
use zeroize::Zeroize;

const BLOCK: usize = 64;

/// SHA-256's initial state, FIPS 180-4 section 5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The two states after the key's blocks. They are as secret as the key, so `drop` wipes them.
pub(crate) struct Prekeyed {
    inner: [u32; 8],
    outer: [u32; 8],
}

impl Prekeyed {
    /// Hashes the key's blocks. The key has 32 bytes, because all keys derived here have.
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let state_after = |pad: u8| {
            let mut block = [pad; BLOCK];
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= key;
            }
            let mut state = INITIAL;
            compress256(&mut state, &[block]);
            block.zeroize();
            state
        };
        Self { inner: state_after(0x36), outer: state_after(0x5c) }
    }

    /// The authentication code of one message.
    #[inline]
    pub(crate) fn code(&self, message: &[u8]) -> [u8; 32] {
        let inner = bytes(finished(self.inner, message));
        bytes(finished(self.outer, &inner))
    }
}

impl Drop for Prekeyed {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

/// The state after `message` and SHA-256's padding. `state` already contains one block.
#[inline]
fn finished(mut state: [u32; 8], message: &[u8]) -> [u32; 8] {
    let (blocks, rest) = message.as_chunks::<BLOCK>();
    if !blocks.is_empty() {
        compress256(&mut state, blocks);
    }
    let bits = ((BLOCK + message.len()) as u64 * 8).to_be_bytes();
    let mut last = [0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x80;
    // The length needs eight bytes after the mark; if they do not fit, it gets its own block.
    if rest.len() >= BLOCK - bits.len() {
        compress256(&mut state, &[last]);
        last = [0; BLOCK];
    }
    last[BLOCK - bits.len()..].copy_from_slice(&bits);
    compress256(&mut state, &[last]);
    state
}

#[inline]
fn bytes(state: [u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *place = word.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    use super::*;

    #[test]
    fn every_message_length_gets_the_code_that_hmac_computes() {
        let key: [u8; 32] = std::array::from_fn(|place| place as u8 * 7);
        let ours = Prekeyed::new(&key);
        let theirs = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let message: Vec<u8> = (0..=255).cycle().take(300).collect();
        for length in 0..message.len() {
            let message = &message[..length];
            let expected = theirs.clone().chain_update(message).finalize().into_bytes();
            assert_eq!(ours.code(message), <[u8; 32]>::from(expected), "{length}");
        }
    }
}
