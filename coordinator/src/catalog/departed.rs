//! What tasks that are gone were labelled with, for a little while.
//!
//! Run events carry no labels; who follows runs by label is served from the task's record. But the
//! key of a one-shot goes within a second of its end, and the word of that end may come after it:
//! it would match no label any more. So the labels of a deleted task are kept for as long as events
//! of its runs may be under way. To let run events carry labels would cost every event of every run
//! for what this costs once for each task, and only for those that have labels.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tocktower_core::ids::TaskName;
use tocktower_core::time::Mono;

/// How long: events come within a second, or after a link was made again.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// Tasks whose labels are kept; the oldest go first.
const KEPT_MAX: usize = 50_000;

type Labels = BTreeMap<String, String>;

/// Labels of deleted tasks, by name.
#[derive(Default)]
pub struct Departed {
    labels: BTreeMap<TaskName, (Mono, Labels)>,
    /// In the order in which they went; a name that went twice stands here twice.
    order: VecDeque<(Mono, TaskName)>,
}

impl Departed {
    pub fn went(&mut self, name: TaskName, labels: Labels, now: Mono) {
        let old = |(at, _): &(Mono, TaskName)| now.since(*at) > KEPT_FOR;
        while self.order.len() >= KEPT_MAX || self.order.front().is_some_and(old) {
            let Some((at, name)) = self.order.pop_front() else { break };
            if self.labels.get(&name).is_some_and(|(went, _)| *went == at) {
                self.labels.remove(&name);
            }
        }
        if !labels.is_empty() {
            self.order.push_back((now, name.clone()));
            self.labels.insert(name, (now, labels));
        }
    }

    pub fn get(&self, name: &TaskName) -> Option<&Labels> {
        self.labels.get(name).map(|(_, labels)| labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> TaskName {
        TaskName::parse(name).unwrap()
    }

    fn labels(team: &str) -> Labels {
        BTreeMap::from([("team".to_owned(), team.to_owned())])
    }

    #[test]
    fn labels_outlive_their_task_for_a_while_and_the_newest_count() {
        let mut departed = Departed::default();
        let at = |seconds| Mono::default().plus(Duration::from_secs(seconds));
        departed.went(name("default/a"), labels("db"), at(0));
        departed.went(name("default/b"), labels("db"), at(10));
        departed.went(name("default/plain"), Labels::new(), at(20));
        departed.went(name("default/a"), labels("web"), at(30));
        assert_eq!(departed.get(&name("default/a")), Some(&labels("web")));
        assert_eq!(departed.get(&name("default/plain")), None);
        departed.went(name("default/c"), labels("db"), at(41));
        assert_eq!(departed.get(&name("default/a")), Some(&labels("web")), "it went again");
        assert_eq!(departed.get(&name("default/b")), None);
        for n in 0..KEPT_MAX {
            departed.went(name(&format!("default/t{n}")), labels("db"), at(42));
        }
        assert_eq!((departed.labels.len(), departed.order.len()), (KEPT_MAX, KEPT_MAX));
        assert_eq!(departed.get(&name("default/c")), None, "the oldest go first");
    }
}
