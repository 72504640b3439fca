//! One option of each group, the least loss within a budget: the multiple-choice knapsack, exactly.
//!
//! A dynamic programme over groups keeps the states that no other state beats in both cost and loss.
//! What bounds their number is the linear relaxation, which for the groups that are left is greedy
//! along their lower convex hulls (Sinha and Zoltners, Operations Research 1979): a state whose
//! bound is above the best solution known is dropped.

/// One option of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// In any integer unit; may be negative.
    pub cost: i64,
    /// What is to be small.
    pub loss: f64,
}

/// Share of the largest sum of losses by which rounding may raise a bound, which is a difference of
/// such sums.
const ROUNDING: f64 = 1e-12;

/// Index of the chosen option of every group, so that the costs add up to at most `budget` and the
/// losses to as little as possible; `None` if even the cheapest options cost more.
pub fn solve(groups: &[Vec<Item>], budget: i64) -> Option<Vec<usize>> {
    let mut groups: Vec<Group> =
        groups.iter().enumerate().map(|(i, items)| Group::new(i, items)).collect::<Option<_>>()?;
    // Those that matter most first: what is left is then small, and greedy on it nearly exact.
    groups.sort_by(|a, b| b.reach().total_cmp(&a.reach()));
    let cheapest: i64 = groups.iter().map(|g| g.options[0].item.cost).sum();
    let room = budget.checked_sub(cheapest).filter(|room| *room >= 0)?;
    let bounds: Vec<Bound> = (0..=groups.len()).map(|from| Bound::new(&groups[from..])).collect();
    let mut least = bounds[0].greedy(room);
    let slack = ROUNDING * groups.iter().map(Group::largest).sum::<f64>();
    let mut levels: Vec<Vec<State>> = vec![vec![State { cost: 0, loss: 0.0, parent: 0, option: 0 }]];
    for (group, bound) in groups.iter().zip(&bounds[1..]) {
        let mut next = Vec::new();
        for (parent, state) in levels[levels.len() - 1].iter().enumerate() {
            for (option, &Candidate { item, .. }) in group.options.iter().enumerate() {
                let cost = state.cost + item.cost - group.options[0].item.cost;
                let loss = state.loss + item.loss;
                if cost > room {
                    break;
                }
                if loss + bound.relaxed(room - cost) <= least + slack {
                    least = least.min(loss + bound.greedy(room - cost));
                    next.push(State { cost, loss, parent, option });
                }
            }
        }
        next.sort_by(|a, b| a.cost.cmp(&b.cost).then(a.loss.total_cmp(&b.loss)));
        let mut best = f64::INFINITY;
        next.retain(|state| {
            let kept = state.loss < best;
            best = best.min(state.loss);
            kept
        });
        levels.push(next);
    }
    let mut at = levels.last()?.iter().enumerate().min_by(|a, b| a.1.loss.total_cmp(&b.1.loss))?.0;
    let mut chosen = vec![0; groups.len()];
    for (level, group) in levels[1..].iter().zip(&groups).rev() {
        chosen[group.index] = group.options[level[at].option].index;
        at = level[at].parent;
    }
    Some(chosen)
}

/// Options chosen for some of the groups.
struct State {
    /// Beyond that of the cheapest options.
    cost: i64,
    loss: f64,
    /// Its index among the states of the groups before.
    parent: usize,
    option: usize,
}

/// Options that no other option beats in both cost and loss: the dearer, the less loss.
struct Group {
    /// Among the groups given.
    index: usize,
    options: Vec<Candidate>,
}

struct Candidate {
    item: Item,
    /// Among the options given.
    index: usize,
}

impl Group {
    fn new(index: usize, items: &[Item]) -> Option<Self> {
        let mut options: Vec<Candidate> =
            items.iter().enumerate().map(|(index, &item)| Candidate { item, index }).collect();
        options.sort_by(|a, b| a.item.cost.cmp(&b.item.cost).then(a.item.loss.total_cmp(&b.item.loss)));
        let mut best = f64::INFINITY;
        options.retain(|o| {
            let kept = o.item.loss < best;
            best = best.min(o.item.loss);
            kept
        });
        (!options.is_empty()).then_some(Self { index, options })
    }

    /// What the choice decides on.
    fn reach(&self) -> f64 {
        let [first, .., last] = &self.options[..] else { return 0.0 };
        first.item.loss - last.item.loss
    }

    /// Largest magnitude of a loss.
    fn largest(&self) -> f64 {
        self.options.iter().map(|o| o.item.loss.abs()).fold(0.0, f64::max)
    }

    /// The edges of the lower convex hull, steepest first.
    fn edges(&self) -> Vec<Edge> {
        let mut hull: Vec<Item> = Vec::new();
        for next in self.options.iter().map(|o| o.item) {
            while let [.., a, b] = hull[..]
                && Edge::between(a, b).slope() <= Edge::between(b, next).slope()
            {
                hull.pop();
            }
            hull.push(next);
        }
        hull.windows(2).map(|pair| Edge::between(pair[0], pair[1])).collect()
    }
}

/// A dearer option instead of a cheaper one.
#[derive(Clone, Copy)]
struct Edge {
    cost: i64,
    gain: f64,
}

impl Edge {
    fn between(a: Item, b: Item) -> Self {
        Self { cost: b.cost - a.cost, gain: a.loss - b.loss }
    }

    fn slope(self) -> f64 {
        self.gain / self.cost as f64
    }
}

/// Edges of some groups, the most gain for its cost first, and their sums.
struct Bound {
    edges: Vec<Edge>,
    /// Of all edges before each one.
    sums: Vec<Edge>,
    /// Loss of the cheapest options.
    worst: f64,
}

impl Bound {
    fn new(groups: &[Group]) -> Self {
        let mut edges: Vec<Edge> = groups.iter().flat_map(Group::edges).collect();
        edges.sort_by(|a, b| b.slope().total_cmp(&a.slope()));
        let mut sum = Edge { cost: 0, gain: 0.0 };
        let mut sums = vec![sum];
        for edge in &edges {
            sum = Edge { cost: sum.cost + edge.cost, gain: sum.gain + edge.gain };
            sums.push(sum);
        }
        Self { edges, sums, worst: groups.iter().map(|g| g.options[0].item.loss).sum() }
    }

    /// Edges that fit one after another.
    fn whole(&self, room: i64) -> usize {
        self.sums.partition_point(|sum| sum.cost <= room) - 1
    }

    /// Least loss if the last edge may be taken in part.
    fn relaxed(&self, room: i64) -> f64 {
        let whole = self.whole(room);
        let part = self.edges.get(whole).map_or(0.0, |e| e.slope() * (room - self.sums[whole].cost) as f64);
        self.worst - self.sums[whole].gain - part
    }

    /// Loss of a solution: the edges of a hull come in its order, so the first so many are one.
    fn greedy(&self, room: i64) -> f64 {
        self.worst - self.sums[self.whole(room)].gain
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn totals(groups: &[Vec<Item>], chosen: &[usize]) -> (i64, f64) {
        let items = groups.iter().zip(chosen).map(|(g, &i)| g[i]);
        items.fold((0, 0.0), |(cost, loss), item| (cost + item.cost, loss + item.loss))
    }

    /// The least loss within the budget, by looking at every combination.
    fn brute_force(groups: &[Vec<Item>], budget: i64) -> Option<f64> {
        let combinations = groups.iter().map(Vec::len).product::<usize>();
        let nth = |mut n: usize| {
            let digit = |g: &Vec<Item>| {
                let digit = n % g.len();
                n /= g.len();
                digit
            };
            totals(groups, &groups.iter().map(digit).collect::<Vec<_>>())
        };
        let fitting = (0..combinations).map(nth).filter(|(cost, _)| *cost <= budget);
        fitting.map(|(_, loss)| loss).min_by(f64::total_cmp)
    }

    #[test]
    fn a_hundred_random_instances_equal_brute_force() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let (mut solved, mut impossible) = (0, 0);
        for instance in 0..100 {
            // Some with few distinct figures, so that there are ties and dominated options.
            let reach = if instance % 2 == 0 { 1_000_000 } else { 12 };
            let mut item = |_| Item {
                cost: rng.random_range(-reach / 4..reach),
                loss: f64::from(rng.random_range(0..reach as i32)),
            };
            let groups: Vec<Vec<Item>> = (0..8).map(|_| (0..4).map(&mut item).collect()).collect();
            let budget = rng.random_range(-reach..5 * reach);
            let chosen = solve(&groups, budget);
            let expected = brute_force(&groups, budget);
            assert_eq!(chosen.is_some(), expected.is_some(), "instance {instance}");
            if let (Some(chosen), Some(expected)) = (chosen, expected) {
                let (cost, loss) = totals(&groups, &chosen);
                assert!(cost <= budget, "instance {instance}: {cost} of {budget}");
                assert_eq!(loss, expected, "instance {instance}");
                solved += 1;
            } else {
                impossible += 1;
            }
        }
        assert!(solved > 50 && impossible > 3, "{solved} solved, {impossible} impossible");
    }

    /// Sums of losses cancel when the bounds are formed; no state may fall victim to that.
    #[test]
    fn with_room_for_all_the_least_loss_of_each_group_is_taken() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        for _ in 0..200 {
            let group = |rng: &mut ChaCha8Rng| -> Vec<Item> {
                let size = 10f64.powf(rng.random_range(-4.0..0.0));
                let item =
                    |w: i32| Item { cost: i64::from(w), loss: size * rng.random::<f64>() * 16f64.powi(-w) };
                [2, 3, 4, 8].map(item).to_vec()
            };
            let groups: Vec<Vec<Item>> = (0..21).map(|_| group(&mut rng)).collect();
            let least = |g: &Vec<Item>| (0..4).min_by(|&a, &b| g[a].loss.total_cmp(&g[b].loss)).unwrap();
            assert_eq!(solve(&groups, 8 * 21), Some(groups.iter().map(least).collect()));
        }
    }

    #[test]
    fn nothing_to_choose_from_is_no_solution() {
        assert_eq!(solve(&[vec![]], 10), None);
        assert_eq!(solve(&[], 0), Some(vec![]));
        assert_eq!(solve(&[], -1), None);
        assert_eq!(solve(&[vec![Item { cost: 3, loss: 1.0 }]], 2), None);
        assert_eq!(solve(&[vec![Item { cost: 3, loss: 1.0 }]], 3), Some(vec![0]));
    }
}
