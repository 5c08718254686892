//! The placements of all tasks, each once: a task holds a number in place of a name. One that has
//! no task any more is forgotten, and its number goes to the next, so that the names of agents that
//! come and go do not add up.

use std::collections::BTreeMap;

use tocktower_core::task::Placement;

/// Where a placement stands in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PlaceNumber(u32);

struct Place {
    placement: Placement,
    tasks: u32,
}

#[derive(Default)]
pub struct Places {
    places: Vec<Place>,
    numbers: BTreeMap<Placement, PlaceNumber>,
    free: Vec<PlaceNumber>,
}

impl Places {
    /// The number of a placement, which has one task more from now on.
    pub fn enter(&mut self, placement: &Placement) -> PlaceNumber {
        let number = match self.numbers.get(placement) {
            Some(number) => *number,
            None => self.add(placement),
        };
        self.at(number).tasks += 1;
        number
    }

    fn add(&mut self, placement: &Placement) -> PlaceNumber {
        let place = Place { placement: placement.clone(), tasks: 0 };
        let number = match self.free.pop() {
            Some(number) => {
                *self.at(number) = place;
                number
            }
            None => {
                self.places.push(place);
                let last = u32::try_from(self.places.len() - 1);
                PlaceNumber(last.expect("there are fewer placements than tasks fit in memory"))
            }
        };
        self.numbers.insert(placement.clone(), number);
        number
    }

    /// A task less.
    pub fn leave(&mut self, number: PlaceNumber) {
        let place = self.at(number);
        place.tasks -= 1;
        if place.tasks == 0 {
            let placement = place.placement.clone();
            self.numbers.remove(&placement);
            self.free.push(number);
        }
    }

    pub fn number(&self, placement: &Placement) -> Option<PlaceNumber> {
        self.numbers.get(placement).copied()
    }

    pub fn get(&self, number: PlaceNumber) -> &Placement {
        let place = usize::try_from(number.0).ok().and_then(|index| self.places.get(index));
        &place.expect("every number has its place").placement
    }

    fn at(&mut self, number: PlaceNumber) -> &mut Place {
        let place = usize::try_from(number.0).ok().and_then(|index| self.places.get_mut(index));
        place.expect("every number has its place")
    }
}

#[cfg(test)]
mod tests {
    use tocktower_core::ids::AgentName;

    use super::*;

    fn agent(number: u32) -> Placement {
        Placement::Agent(AgentName::parse(&format!("web-{number}")).unwrap())
    }

    #[test]
    fn there_may_be_more_agents_than_a_small_number_counts() {
        let mut places = Places::default();
        let numbers: Vec<PlaceNumber> = (0..70_000).map(|n| places.enter(&agent(n))).collect();
        assert_eq!(places.number(&agent(69_999)), Some(numbers[69_999]));
        assert_eq!(*places.get(numbers[66_000]), agent(66_000));
    }

    #[test]
    fn a_placement_without_tasks_is_forgotten_and_its_number_used_again() {
        let mut places = Places::default();
        let first = places.enter(&agent(1));
        assert_eq!(places.enter(&agent(1)), first);
        places.leave(first);
        assert_eq!(places.number(&agent(1)), Some(first), "one task is left");
        places.leave(first);
        assert_eq!(places.number(&agent(1)), None);
        for number in 2..1_000 {
            let place = places.enter(&agent(number));
            assert_eq!((place, places.get(place)), (first, &agent(number)));
            places.leave(place);
        }
    }
}
