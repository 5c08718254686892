//! All tasks of the cluster in memory, at some 350 bytes each, so that a coordinator answers reads
//! alone and a million tasks fit beside everything else.
//!
//! A task stays as it is stored: the encoded record, its two revisions and its place. Decoding
//! takes a microsecond and happens for what is shown; keeping decoded structs would take ten times
//! the memory. The name is the key, in one piece, so that a namespace, a prefix and a cursor are
//! all ranges of one ordered map. A record that cannot be decoded keeps its place with the reason
//! beside it: quarantined, shown, never in the way.

use std::collections::BTreeMap;
use std::ops::Bound;

use prost::Message;
use tocktower_core::ids::{PoolName, RangeId, Revision, TaskName};
use tocktower_core::task::{Placement, Task};
use tocktower_proto::convert::{DecodeError, StoredTask, decode_record, decode_task};

use super::places::{PlaceNumber, Places};

struct Entry {
    record: Box<[u8]>,
    create_revision: Revision,
    mod_revision: Revision,
    place: PlaceNumber,
}

/// One task as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// `<ns>/<name>`.
    pub key: &'a str,
    pub placement: &'a Placement,
    pub record: &'a [u8],
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// Why the record cannot be read.
    pub error: Option<&'a str>,
}

/// A task whose record this version cannot read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    pub name: TaskName,
    pub placement: Placement,
    pub revision: Revision,
    pub error: String,
}

impl Stored<'_> {
    pub fn name(&self) -> TaskName {
        TaskName::parse(self.key).expect("only well formed names are kept")
    }

    pub fn task(&self) -> Result<Task, DecodeError> {
        decode_task(self.record, self.stored())
    }

    /// A copy, to be decoded when the look at the catalog is over.
    pub fn copied(&self) -> Copied {
        Copied { stored: self.stored(), record: self.record.to_vec() }
    }

    fn stored(&self) -> StoredTask {
        StoredTask {
            name: self.name(),
            placement: self.placement.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
        }
    }

    /// Only what filters look at; a tenth of the work of decoding it all.
    pub fn glance(&self) -> Glance {
        decode_record(self.record).unwrap_or_default()
    }
}

/// One task as it is stored, taken out of the table.
#[derive(Clone, Debug)]
pub struct Copied {
    stored: StoredTask,
    record: Vec<u8>,
}

impl Copied {
    /// The task, or what is left to say of it.
    pub fn read(self) -> Result<Task, Unreadable> {
        decode_task(&self.record, self.stored.clone()).map_err(|error| Unreadable {
            name: self.stored.name,
            placement: self.stored.placement,
            revision: self.stored.mod_revision,
            error: error.to_string(),
        })
    }
}

/// The fields of a task's record that filters look at, by the numbers of `TaskRecord`.
#[derive(Clone, PartialEq, Message)]
pub struct Glance {
    #[prost(string, tag = "2")]
    pub description: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub labels: BTreeMap<String, String>,
    #[prost(bool, tag = "18")]
    pub paused: bool,
}

/// What became of a version.
#[derive(Debug)]
pub enum Put {
    /// A newer one is there.
    Older,
    /// That very one is there.
    Known,
    /// With the task, if it can be read.
    Taken(Option<Box<Task>>),
}

/// The table. Changes come in the order of their revisions, but for those that a service applies
/// early: an older version never replaces a newer one.
#[derive(Default)]
pub struct Tasks {
    by_name: BTreeMap<Box<str>, Entry>,
    places: Places,
    per_range: BTreeMap<(PlaceNumber, RangeId), u32>,
    unreadable: BTreeMap<Box<str>, String>,
}

impl Tasks {
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Names and reasons of the records that cannot be read.
    pub fn unreadable(&self) -> usize {
        self.unreadable.len()
    }

    /// Takes a version in.
    pub fn put(&mut self, range: RangeId, stored: &StoredTask, record: &[u8]) -> Put {
        let key = stored.name.to_string().into_boxed_str();
        let known = self.by_name.get(&key);
        if known.is_some_and(|known| known.mod_revision > stored.mod_revision) {
            return Put::Older;
        }
        // What a service has put in early comes again by the watch, and is judged once.
        if known.is_some_and(|known| self.is_that(known, stored, record)) {
            return Put::Known;
        }
        let task = self.judge(&key, stored, record);
        let place = self.places.enter(&stored.placement);
        let entry = Entry {
            record: Box::from(record),
            create_revision: stored.create_revision,
            mod_revision: stored.mod_revision,
            place,
        };
        self.count(place, range, 1);
        if let Some(before) = self.by_name.insert(key, entry) {
            self.count(before.place, range, -1);
            self.places.leave(before.place);
        }
        Put::Taken(task.map(Box::new))
    }

    fn is_that(&self, known: &Entry, stored: &StoredTask, record: &[u8]) -> bool {
        known.mod_revision == stored.mod_revision
            && *known.record == *record
            && *self.places.get(known.place) == stored.placement
    }

    /// Takes a task away, if it is placed there: a move puts it elsewhere at the same revision.
    pub fn remove(&mut self, from: &Placement, range: RangeId, name: &TaskName, at: Revision) {
        let key = name.to_string();
        let there = self
            .by_name
            .get(key.as_str())
            .is_some_and(|entry| self.places.get(entry.place) == from && entry.mod_revision <= at);
        if there && let Some(entry) = self.by_name.remove(key.as_str()) {
            self.unreadable.remove(key.as_str());
            self.count(entry.place, range, -1);
            self.places.leave(entry.place);
        }
    }

    pub fn get(&self, name: &TaskName) -> Option<Stored<'_>> {
        let (key, entry) = self.by_name.get_key_value(name.to_string().as_str())?;
        Some(self.stored(key, entry))
    }

    /// The tasks from `from` on, in the order of their names.
    pub fn from<'a>(&'a self, from: Bound<&str>) -> impl Iterator<Item = Stored<'a>> {
        let range = self.by_name.range::<str, _>((from, Bound::Unbounded));
        range.map(|(key, entry)| self.stored(key, entry))
    }

    /// Tasks of one range.
    pub fn in_range(&self, placement: &Placement, range: RangeId) -> u32 {
        let Some(number) = self.places.number(placement) else { return 0 };
        self.per_range.get(&(number, range)).copied().unwrap_or(0)
    }

    /// Tasks of each range that has any.
    pub fn per_range(&self) -> impl Iterator<Item = (&Placement, RangeId, u32)> {
        let ranges = self.per_range.iter();
        ranges.map(|((number, range), count)| (self.places.get(*number), *range, *count))
    }

    /// Tasks of each pool that has any.
    pub fn per_pool(&self) -> BTreeMap<PoolName, u64> {
        let mut counts = BTreeMap::new();
        for ((number, _), count) in &self.per_range {
            if let Some(pool) = self.places.get(*number).pool() {
                *counts.entry(pool.clone()).or_insert(0) += u64::from(*count);
            }
        }
        counts
    }

    fn stored<'a>(&'a self, key: &'a str, entry: &'a Entry) -> Stored<'a> {
        Stored {
            key,
            placement: self.places.get(entry.place),
            record: &entry.record,
            create_revision: entry.create_revision,
            mod_revision: entry.mod_revision,
            error: self.unreadable.get(key).map(String::as_str),
        }
    }

    /// Notes whether the record can be read, and says so once.
    fn judge(&mut self, key: &str, stored: &StoredTask, record: &[u8]) -> Option<Task> {
        match decode_task(record, stored.clone()) {
            Ok(task) => {
                self.unreadable.remove(key);
                Some(task)
            }
            Err(error) => {
                let error = error.to_string();
                if self.unreadable.get(key) != Some(&error) {
                    tracing::error!(task = key, error, "a task record cannot be read");
                    self.unreadable.insert(Box::from(key), error);
                }
                None
            }
        }
    }

    fn count(&mut self, place: PlaceNumber, range: RangeId, by: i32) {
        let count = self.per_range.entry((place, range)).or_insert(0);
        *count = count.saturating_add_signed(by);
        if *count == 0 {
            self.per_range.remove(&(place, range));
        }
    }
}
