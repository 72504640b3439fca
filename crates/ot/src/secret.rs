//! Secret vectors, wiped when they go.

use std::ops::{Deref, DerefMut};

/// A vector whose memory is overwritten with zeros before it is freed.
///
/// `zeroize::Zeroizing` does the same one volatile word at a time, which costs as much as the
/// cryptography when there are millions of blocks; this is one `memset` that
/// [`zeroize::optimization_barrier`] keeps alive. A vector that grows past its capacity leaves a
/// copy behind, so the crate reserves first.
pub struct Secret<T: Copy + Default>(Vec<T>);

impl<T: Copy + Default> Secret<T> {
    /// Takes the vector over.
    pub fn new(values: Vec<T>) -> Self {
        Self(values)
    }

    /// An empty vector with room for `n` values.
    pub fn with_capacity(n: usize) -> Self {
        Self(Vec::with_capacity(n))
    }

    /// `n` default values.
    pub fn zeros(n: usize) -> Self {
        Self(vec![T::default(); n])
    }
}

impl<T: Copy + Default> Default for Secret<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + Default> Deref for Secret<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: Copy + Default> DerefMut for Secret<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T: Copy + Default> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.clear();
        self.0.resize(self.0.capacity(), T::default());
        zeroize::optimization_barrier(self.0.as_slice());
    }
}

impl<T: Copy + Default> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

/// Overwrites values with zeros in place.
pub(crate) fn wipe<T: Copy + Default>(values: &mut [T]) {
    values.fill(T::default());
    zeroize::optimization_barrier(values);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiping_zeroes_and_debug_hides() {
        let mut values = [7_u128; 5];
        wipe(&mut values[1..4]);
        assert_eq!(values, [7, 0, 0, 0, 7]);
        let secret = Secret::new(vec![42_u64; 3]);
        assert!(!format!("{secret:?}").contains("42"));
        assert_eq!(**secret, [42; 3]);
    }
}
