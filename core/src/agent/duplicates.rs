//! A create that was sent again, after its one-shot had run: the store knows its request.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::agent::Agent;
use crate::agent::desk::{Desk, Load};
use crate::agent::effect::{LoadRequest, RunKeyName};
use crate::agent::input::Duplicate;
use crate::agent::open::{OpenRun, OwnKey};
use crate::agent::range::Range;
use crate::agent::take::run_id;
use crate::ids::{RunId, RunKey, TaskName};
use crate::run::RunState;
use crate::run::life::Stage;
use crate::task::Task;

impl Agent {
    /// The same create was sent before, and its one-shot has run: this one ends at once.
    pub(super) fn end_duplicate(&mut self, duplicate: &Duplicate) {
        let Duplicate { range: id, number, revision, earlier } = duplicate;
        let Some(range) = self.ranges.get_mut(id) else { return };
        // Another task may have the name by now.
        let open = range
            .runs_of(&earlier.task)
            .filter(|(id, _)| id.incarnation.revision == *revision)
            .filter(|(id, run)| matches!(id.run, RunKey::Instant(_)) && run.ticket().is_none())
            .find(|(id, run)| *id != earlier && !run.ended())
            .map(|(id, _)| id.clone());
        if let Some(open) = open {
            let reason = format!("duplicate_of {earlier}");
            range.end_run(&mut self.desk, &open, RunState::Skipped, Some(&reason));
        } else if let Some(near) = self.desk.near.remove(*number) {
            range.end_as_duplicate(&mut self.desk, &near.timed.task, earlier);
        } else {
            let load = Load::Duplicate(duplicate.clone());
            let name = earlier.task.clone();
            self.desk.load(load, LoadRequest::Task { range: *id, name });
        }
    }
}

impl Range {
    /// What is read of a task that came again is not there any more.
    pub(super) fn forget_duplicates(&self, desk: &mut Desk, name: &TaskName) {
        let of_task = |load: &Load| match load {
            Load::Duplicate(read) => read.range == self.id && read.earlier.task == *name,
            _ => false,
        };
        desk.loads.retain(|_, load| !of_task(load));
    }

    pub(super) fn end_as_duplicate(&mut self, desk: &mut Desk, task: &Arc<Task>, earlier: &RunId) {
        let Some(at) = task.spec.one_shot_at().filter(|_| self.fence().is_some()) else { return };
        let id = run_id(task, at);
        let mut run = OpenRun::new(task.clone(), at, at);
        let name = RunKeyName::Task(task.spec.name.clone());
        run.key = Some(OwnKey { name, revision: task.revision });
        if id == *earlier {
            // Its record came again: what is left to do is to delete it.
            let batch = desk.batch();
            run.stage = Stage::Ended { batch };
            if let Entry::Vacant(entry) = self.open.entry(id.clone()) {
                entry.insert(run);
                desk.done.push_back((batch, self.id, id));
            }
            return;
        }
        run.stage = Stage::Behind;
        self.open.entry(id.clone()).or_insert(run);
        let reason = format!("duplicate_of {earlier}");
        self.end_run(desk, &id, RunState::Skipped, Some(&reason));
    }
}
