//! A short deterministic run of the fuzz cases of `fuzz/`.

#[path = "../fuzz/cases.rs"]
mod cases;

use copriv_ot::{ChannelError, OtError, OtFlavour};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

fn random(rng: &mut ChaCha20Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[test]
fn arbitrary_bit_strings() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for _ in 0..20_000 {
        let len = rng.random_range(0..40);
        cases::wire(&random(&mut rng, len));
    }
}

#[test]
fn arbitrary_messages() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    for round in 0..20_000 {
        let len = rng.random_range(0..120);
        let mut data = random(&mut rng, len);
        // Every other message is zeros, whose padding is right.
        if round % 2 == 0 && data.len() > 4 {
            data[4..].fill(0);
        }
        cases::messages(&data);
    }
}

/// `cut` bytes off the end, and edits.
fn session(flavour: usize, cut: usize, edits: &[(usize, u8)]) -> Result<(), OtError> {
    let mut data = vec![flavour as u8];
    data.extend(&(cut as u32).to_le_bytes()[..3]);
    for (at, xor) in edits {
        data.extend(&(*at as u32).to_le_bytes()[..3]);
        data.push(*xor);
    }
    cases::peer(&data)
}

/// A session of Ferret takes a tenth of a second.
fn rounds(flavour: OtFlavour, many: usize) -> usize {
    if flavour.name().starts_with("ferret") { 3 } else { many }
}

#[test]
fn honest_transcripts_pass_and_cut_ones_are_errors() {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    for (f, flavour) in OtFlavour::ALL.iter().enumerate() {
        let len = cases::transcript(f).len();
        assert!(session(f, 0, &[]).is_ok(), "{flavour:?}");
        let rounds = rounds(*flavour, 16);
        for round in 0..rounds {
            let cut = if round < 2 { 1 + round } else { rng.random_range(1..=len) };
            let result = session(f, cut, &[]);
            let closed = matches!(result, Err(OtError::Channel(ChannelError::PeerClosed)));
            assert!(closed, "{flavour:?} {cut}: {result:?}");
        }
    }
}

#[test]
fn changed_transcripts_do_not_panic() {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let (mut passed, mut failed) = (0, 0);
    for (f, flavour) in OtFlavour::ALL.iter().enumerate() {
        let len = cases::transcript(f).len();
        let rounds = rounds(*flavour, 30);
        for round in 0..rounds {
            // Anywhere, after the set-up, and in the last message's padding.
            let from = [0, len * 9 / 10, len - 20][round % 3];
            let edits: Vec<(usize, u8)> =
                (0..1 + round % 4).map(|_| (rng.random_range(from..len), rng.random())).collect();
            match session(f, 0, &edits) {
                Ok(()) => passed += 1,
                Err(_) => failed += 1,
            }
        }
    }
    // Both happen: well-formed lies pass (semi-honest), malformed messages do not.
    assert!(passed > 20 && failed > 20, "{passed} {failed}");
}
