//! The size of the next read of a body.

/// Minimum read size in bytes. A slow reader on the other side makes us hold one read and the
/// queued part of the previous one.
const MIN: usize = 16 * 1_024;
const MAX: usize = 256 * 1_024;

/// Bytes of the next read: doubled while reads fill the buffer, halved if a read uses less than
/// half of it, because the next read needs another block while a piece is still queued.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadSize(usize);

impl Default for ReadSize {
    fn default() -> Self {
        Self(MIN)
    }
}

impl ReadSize {
    /// The size in bytes.
    pub(crate) fn get(self) -> usize {
        self.0
    }

    /// The size of the read after one that returned `count` bytes.
    pub(crate) fn after(self, count: usize) -> Self {
        if count >= self.0 {
            Self((self.0 * 2).min(MAX))
        } else if count < self.0 / 2 {
            Self((self.0 / 2).max(MIN))
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_grow_while_they_are_full_and_shrink_below_half() {
        let sizes =
            [MIN, MIN, 2 * MIN, MIN, 0].into_iter().scan(ReadSize::default(), |size, came| {
                *size = size.after(came);
                Some(size.get())
            });
        assert_eq!(sizes.collect::<Vec<_>>(), [2 * MIN, 2 * MIN, 4 * MIN, 2 * MIN, MIN]);
        let full = (0..9).fold(ReadSize::default(), |size, _| size.after(size.get()));
        assert_eq!(full.get(), MAX);
    }
}
