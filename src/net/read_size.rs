//! How much of a body is read at once.

/// A slow reader on the other side makes us hold one read, and what is queued of the one before.
const MIN: usize = 16 * 1_024;
const MAX: usize = 256 * 1_024;

/// Bytes of the next read: doubled as long as reads come back full, halved where less than half of the
/// room was used, for what is read next to a piece still queued needs another block.
#[derive(Clone, Copy, Debug)]
pub struct ReadSize(usize);

impl Default for ReadSize {
    fn default() -> Self {
        Self(MIN)
    }
}

impl ReadSize {
    /// Bytes.
    pub fn get(self) -> usize {
        self.0
    }

    /// The size of the read behind one that brought so many bytes.
    pub fn after(self, count: usize) -> Self {
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
    fn reads_grow_while_they_are_full_and_shrink_where_half_is_unused() {
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
