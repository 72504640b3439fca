//! Data and networks that need no training.

use copriv_train::data::{Dataset, Images, PixelScale};
use copriv_train::{Checkpoint, untrained};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random colour images in ten classes.
pub fn noise(side: usize, n: usize, seed: u64) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut images = |n: usize| Images {
        channels: 3,
        side,
        pixels: (0..n * 3 * side * side).map(|_| rng.random()).collect::<Vec<u8>>().into(),
        labels: vec![0; n],
    };
    Dataset {
        name: "noise".into(),
        classes: (0..10).map(|i| i.to_string()).collect(),
        pixels: PixelScale { offset: 128, scale_log2: -6 },
        train: images(n),
        validation: images(1),
        test: images(n),
    }
}

/// A network whose norms are not trivial.
pub fn random_network(arch: &str, data: &Dataset, seed: u64) -> Checkpoint {
    let mut checkpoint = untrained(arch, data, seed).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let names: Vec<String> = checkpoint.weights.iter().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        let mut array = checkpoint.weights.get(&name).unwrap().clone();
        let range = match name.rsplit('.').next() {
            Some("gamma" | "var") => 0.5..1.5,
            Some("beta" | "mean" | "bias") => -0.3..0.3,
            _ => continue,
        };
        array.data.iter_mut().for_each(|v| *v = rng.random_range(range.clone()));
        checkpoint.weights.insert(&name, array);
    }
    checkpoint
}
