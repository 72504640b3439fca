//! Packing to the bit: values of any width follow each other without gaps, least significant
//! bit first, and only the end of a message is padded to a byte, with zeros.

/// A bit string from the peer that cannot be what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Wrong number of bytes.
    #[error("bit string of {got} bytes where {expected} are due")]
    Length {
        /// Bytes that the shape asks for.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// A read past the end.
    #[error("bit string ends within a value")]
    Truncated,
    /// The padding bits after the last value are not zero.
    #[error("bit string has bits set after its end")]
    Padding,
}

/// Bytes taken by `n` values of `bits` bits.
pub const fn packed_len(n: usize, bits: u32) -> usize {
    (n as u128 * bits as u128).div_ceil(8) as usize
}

/// Packs the low `bits` (0..=64) bits of each value.
///
/// # Panics
/// If `bits > 64`.
pub fn pack(values: &[u64], bits: u32) -> Vec<u8> {
    let mut writer = BitWriter::with_capacity(packed_len(values.len(), bits));
    for &value in values {
        writer.write(value, bits);
    }
    writer.finish()
}

/// Unpacks `n` values of `bits` (0..=64) bits. The byte string must have the one right length
/// and zero padding.
///
/// # Panics
/// If `bits > 64`.
pub fn unpack(bytes: &[u8], bits: u32, n: usize) -> Result<Vec<u64>, WireError> {
    check_len(bytes, packed_len(n, bits))?;
    let mut reader = BitReader::new(bytes);
    let values = (0..n).map(|_| reader.read(bits)).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(values)
}

/// Packs one bit a value, eight a byte.
pub fn pack_bits(bits: &[bool]) -> Vec<u8> {
    bits.chunks(8)
        .map(|eight| eight.iter().enumerate().fold(0, |byte, (j, &bit)| byte | u8::from(bit) << j))
        .collect()
}

/// Unpacks `n` bits; length and padding are checked as in [`unpack`].
pub fn unpack_bits(bytes: &[u8], n: usize) -> Result<Vec<bool>, WireError> {
    check_len(bytes, packed_len(n, 1))?;
    check_padding(bytes, n)?;
    Ok((0..n).map(|i| bytes[i / 8] >> (i % 8) & 1 == 1).collect())
}

pub(crate) fn check_len(bytes: &[u8], expected: usize) -> Result<(), WireError> {
    if bytes.len() == expected {
        return Ok(());
    }
    Err(WireError::Length { expected, got: bytes.len() })
}

pub(crate) fn check_padding(bytes: &[u8], n: usize) -> Result<(), WireError> {
    match (n % 8, bytes.last()) {
        (0, _) | (_, None) => Ok(()),
        (used, Some(last)) if last >> used == 0 => Ok(()),
        _ => Err(WireError::Padding),
    }
}

/// Appends values of any width to a bit string.
#[derive(Debug, Clone, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    partial: u64,
    used: u32,
}

impl BitWriter {
    /// An empty bit string.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty bit string with room for `bytes` bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes.saturating_add(8)), ..Self::default() }
    }

    /// Appends the low `bits` (0..=64) bits of `value`.
    ///
    /// # Panics
    /// If `bits > 64`.
    #[inline]
    pub fn write(&mut self, value: u64, bits: u32) {
        let value = value & mask(bits);
        self.partial |= value << self.used;
        let used = self.used + bits;
        if used < 64 {
            self.used = used;
            return;
        }
        self.bytes.extend_from_slice(&self.partial.to_le_bytes());
        // The bits of `value` that did not fit; a shift by 64 leaves none.
        self.partial = value.checked_shr(64 - self.used).unwrap_or(0);
        self.used = used - 64;
    }

    /// Appends all of another bit string.
    pub fn append(&mut self, other: &Self) {
        for word in other.bytes.chunks_exact(8) {
            self.write(u64::from_le_bytes(word.try_into().expect("eight bytes")), 64);
        }
        self.write(other.partial, other.used);
    }

    /// Bits written so far.
    pub fn bit_len(&self) -> u64 {
        self.bytes.len() as u64 * 8 + u64::from(self.used)
    }

    /// The bytes, the last one padded with zero bits.
    pub fn finish(mut self) -> Vec<u8> {
        let tail = self.used.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.partial.to_le_bytes()[..tail]);
        self.bytes
    }
}

/// Reads values of any width from a bit string.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::at(bytes, 0)
    }

    /// Starts at a bit; there is nothing to read behind the end.
    pub fn at(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    /// The next `bits` (0..=64) bits.
    ///
    /// # Panics
    /// If `bits > 64`.
    #[inline]
    pub fn read(&mut self, bits: u32) -> Result<u64, WireError> {
        let end = self.position.saturating_add(bits as usize);
        if end > self.bytes.len() * 8 {
            return Err(WireError::Truncated);
        }
        let (byte, shift) = (self.position / 8, self.position % 8);
        self.position = end;
        let window = match self.bytes.get(byte..byte + 16) {
            Some(sixteen) => u128::from_le_bytes(sixteen.try_into().expect("sixteen bytes")),
            None => {
                let mut sixteen = [0; 16];
                let rest = &self.bytes[byte.min(self.bytes.len())..];
                sixteen[..rest.len()].copy_from_slice(rest);
                u128::from_le_bytes(sixteen)
            }
        };
        Ok((window >> shift) as u64 & mask(bits))
    }

    /// Checks that all values have been read: less than a byte is left, and it is zero.
    pub fn finish(self) -> Result<(), WireError> {
        let expected = self.position.div_ceil(8);
        check_len(self.bytes, expected)?;
        check_padding(self.bytes, self.position)
    }
}

/// The low `bits` bits set.
///
/// # Panics
/// If `bits > 64`.
#[inline]
pub const fn mask(bits: u32) -> u64 {
    assert!(bits <= 64, "widths are 0..=64 bits");
    if bits == 0 { 0 } else { u64::MAX >> (64 - bits) }
}
