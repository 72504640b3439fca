//! The learning rate over time.

/// Linear warm-up to `peak` over `warmup` steps, then half a cosine down to 0 at `total`.
#[derive(Clone, Copy, Debug)]
pub struct Cosine {
    /// Largest rate.
    pub peak: f64,
    /// Steps of warm-up.
    pub warmup: usize,
    /// All steps.
    pub total: usize,
}

impl Cosine {
    /// The rate of step `step`, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let rest = (self.total - self.warmup).max(1) as f64;
        let progress = ((step - self.warmup) as f64 / rest).min(1.0);
        self.peak * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_linearly_and_falls_by_a_cosine() {
        let schedule = Cosine { peak: 0.8, warmup: 4, total: 104 };
        assert_eq!((0..4).map(|s| schedule.rate(s)).collect::<Vec<_>>(), [0.2, 0.4, 0.6000000000000001, 0.8]);
        assert_eq!(schedule.rate(4), 0.8);
        assert!((schedule.rate(54) - 0.4).abs() < 1e-12, "half way");
        assert!(schedule.rate(103) > 0.0 && schedule.rate(103) < 1e-3);
        assert!((4..103).all(|s| schedule.rate(s + 1) < schedule.rate(s)));
    }
}
