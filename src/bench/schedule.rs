//! The order of a run: every item once a round, each round shuffled anew from one seed, so that whatever drifts
//! during the run falls on all settings alike.

use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::SmallRng};

use super::plan::Plan;

/// What is measured next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Item {
    /// Index in the plan's cells.
    Cell(usize),
    /// Index in the plan's latency sizes.
    Latency(usize),
}

/// All rounds of a plan.
pub fn rounds(plan: &Plan) -> Vec<Vec<Item>> {
    let mut order = SmallRng::seed_from_u64(plan.seed);
    let cells = (0..plan.cells.len()).map(Item::Cell);
    let mut items: Vec<Item> = cells.chain((0..plan.latency.len()).map(Item::Latency)).collect();
    let mut round = || {
        items.shuffle(&mut order);
        items.clone()
    };
    (0..plan.draft.rounds).map(|_| round()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plan::Draft;
    use super::*;

    fn with_seed(seed: u64) -> Vec<Vec<Item>> {
        rounds(&Plan::new(Draft { seed: Some(seed), ..Draft::default() }, 0).unwrap())
    }

    #[test]
    fn every_round_holds_everything_once_in_an_order_of_its_own() {
        let rounds = with_seed(1);
        let sorted = |round: &Vec<Item>| {
            let mut round = round.clone();
            round.sort();
            round
        };
        assert_eq!(rounds.len(), 5);
        assert!(rounds.iter().all(|round| sorted(round) == sorted(&rounds[0]) && round.len() == 42));
        assert_ne!(rounds[0], rounds[1]);
    }

    #[test]
    fn the_seed_is_the_order() {
        assert_eq!(with_seed(5), with_seed(5));
        assert_ne!(with_seed(5), with_seed(6));
    }
}
