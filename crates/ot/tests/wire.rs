//! Packing against its definition: bit `i * bits + j` of the string is bit `j` of value `i`.

use copriv_ot::wire::{
    BitReader, BitWriter, WireError, mask, pack, pack_bits, packed_len, unpack, unpack_bits,
};
use proptest::prelude::*;

fn bit(bytes: &[u8], i: usize) -> u64 {
    u64::from(bytes[i / 8] >> (i % 8) & 1)
}

proptest! {
    #[test]
    fn one_width(bits in 0..=64_u32, values in prop::collection::vec(any::<u64>(), 0..200)) {
        let bytes = pack(&values, bits);
        let total = values.len() * bits as usize;
        prop_assert_eq!(bytes.len(), packed_len(values.len(), bits));
        prop_assert_eq!(bytes.len(), total.div_ceil(8));
        for (i, value) in values.iter().enumerate() {
            for j in 0..bits as usize {
                prop_assert_eq!(bit(&bytes, i * bits as usize + j), value >> j & 1);
            }
        }
        for i in total..8 * bytes.len() {
            prop_assert_eq!(bit(&bytes, i), 0);
        }
        let back = unpack(&bytes, bits, values.len()).unwrap();
        let expected: Vec<u64> = values.iter().map(|v| v & mask(bits)).collect();
        prop_assert_eq!(back, expected);
    }

    #[test]
    fn mixed_widths(items in prop::collection::vec((any::<u64>(), 0..=64_u32), 0..200)) {
        let mut writer = BitWriter::new();
        let mut expected = Vec::new();
        for &(value, bits) in &items {
            prop_assert_eq!(writer.bit_len(), expected.len() as u64);
            writer.write(value, bits);
            expected.extend((0..bits).map(|j| value >> j & 1 == 1));
        }
        let bytes = writer.finish();
        prop_assert_eq!(&bytes, &pack_bits(&expected));
        let mut reader = BitReader::new(&bytes);
        for &(value, bits) in &items {
            prop_assert_eq!(reader.read(bits).unwrap(), value & mask(bits));
        }
        prop_assert!(reader.finish().is_ok());
    }

    #[test]
    fn parts_join_and_are_read_from_where_they_begin(
        parts in prop::collection::vec(prop::collection::vec((any::<u64>(), 0..=64_u32), 0..20), 0..8),
    ) {
        let (mut whole, mut joined, mut starts) = (BitWriter::new(), BitWriter::new(), Vec::new());
        for part in &parts {
            starts.push(whole.bit_len() as usize);
            let mut own = BitWriter::new();
            for &(value, bits) in part {
                whole.write(value, bits);
                own.write(value, bits);
            }
            joined.append(&own);
        }
        let bytes = joined.finish();
        prop_assert_eq!(&bytes, &whole.finish());
        for (part, start) in parts.iter().zip(starts) {
            let mut reader = BitReader::at(&bytes, start);
            for &(value, bits) in part {
                prop_assert_eq!(reader.read(bits).unwrap(), value & mask(bits));
            }
        }
        prop_assert_eq!(BitReader::at(&bytes, usize::MAX).read(1), Err(WireError::Truncated));
    }

    #[test]
    fn single_bits(bits in prop::collection::vec(any::<bool>(), 0..300)) {
        let values: Vec<u64> = bits.iter().map(|&b| u64::from(b)).collect();
        let bytes = pack_bits(&bits);
        prop_assert_eq!(&bytes, &pack(&values, 1));
        prop_assert_eq!(unpack_bits(&bytes, bits.len()).unwrap(), bits);
    }

    #[test]
    fn any_bytes_give_values_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..50),
        bits in 0..=64_u32,
        n in 0..100_usize,
    ) {
        match unpack(&bytes, bits, n) {
            Ok(values) => prop_assert_eq!(pack(&values, bits), bytes),
            Err(WireError::Length { expected, got }) => {
                prop_assert_eq!((expected, got), (packed_len(n, bits), bytes.len()));
                prop_assert_ne!(expected, got);
            }
            Err(error) => prop_assert_eq!(error, WireError::Padding),
        }
    }
}

#[test]
fn bad_strings_are_errors() {
    assert_eq!(unpack(&[0x10], 4, 1), Err(WireError::Padding));
    assert_eq!(unpack_bits(&[0x10], 4), Err(WireError::Padding));
    assert!(unpack(&[0, 0], 8, 1).is_err());
    assert!(unpack(&[1], 0, 7).is_err());
    assert_eq!(unpack(&[], 0, 7), Ok(vec![0; 7]));
    assert!(unpack(&[], 64, usize::MAX).is_err());
    let mut reader = BitReader::new(&[0xff]);
    assert_eq!(reader.read(7), Ok(127));
    assert_eq!(reader.read(2), Err(WireError::Truncated));
    assert_eq!(reader.clone().finish(), Err(WireError::Padding));
    assert_eq!(reader.read(1), Ok(1));
    assert!(reader.finish().is_ok());
}
