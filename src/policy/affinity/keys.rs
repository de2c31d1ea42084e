//! The key ring: the first key seals, all open.

use crate::ground::secret::Secret;

/// One key as it was configured or generated.
#[derive(Clone, Debug)]
pub struct Key {
    /// 1..=127 for configured keys, 128..=255 for generated ones.
    pub id: u8,
    /// At least 32 bytes.
    pub material: Secret,
}
