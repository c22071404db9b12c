//! Buffers for outgoing payloads that are used again when the transport has let go of them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::wire::CHUNK_BYTES;

/// Spare buffers that are kept; more than a group has in flight is given back to the allocator.
const SPARE_BUFFERS_MAX: usize = 64;

/// Hands out payloads; a payload's memory comes back when its last `Bytes` is dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Pool {
    /// A payload of `length` bytes, at most [`CHUNK_BYTES`], that `write` fills. What it finds in
    /// the slice is arbitrary.
    pub(crate) fn payload(&self, length: usize, write: impl FnOnce(&mut [u8])) -> Bytes {
        assert!(length <= CHUNK_BYTES, "a payload is at most a chunk");
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = spare.unwrap_or_else(|| vec![0; CHUNK_BYTES]);
        write(&mut buffer[..length]);
        Bytes::from_owner(Lent { buffer, length, pool: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    length: usize,
    pool: Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spare = self.pool.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_only_after_its_last_clone_is_dropped() {
        let pool = Pool::default();
        let first = pool.payload(4, |slice| slice.copy_from_slice(&[1, 2, 3, 4]));
        let clone = first.slice(1..3);
        drop(first);
        let second = pool.payload(4, |slice| slice.fill(9));
        assert_eq!(clone.as_ref(), [2, 3]);
        drop((clone, second));
        assert_eq!(pool.spare.lock().unwrap().len(), 2);
    }
}
