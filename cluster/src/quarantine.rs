//! Keys whose record cannot be read: left alone, and named in the log once.
//!
//! Whoever looks at a range lists it again and again, and an unreadable key is in every list. It
//! must be said once, or it fills the log, and it must be said, or a trigger vanishes without a
//! trace. What was said is known by key and revision: a record that was written anew and is wrong
//! again is news. The memory of it is bounded; beyond the bound only their number grows, since a
//! thousand lines tell what there is to tell.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tocktower_core::ids::Revision;

use crate::port::KeyValue;

/// Keys that are named.
const NAMED_MAX: usize = 1_000;

/// What was said. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quarantine {
    named: Arc<Mutex<BTreeMap<Vec<u8>, Revision>>>,
}

impl Quarantine {
    /// What was read, or `None` after a line in the log.
    pub(crate) fn read<T, E: fmt::Display>(
        &self,
        item: &KeyValue,
        read: Result<T, E>,
    ) -> Option<T> {
        read.inspect_err(|error| {
            if self.is_news(item) {
                let key = String::from_utf8_lossy(&item.key);
                let revision = item.mod_revision.0;
                tracing::error!(%key, revision, %error, "a record cannot be read: left alone");
            }
        })
        .ok()
    }

    pub(crate) fn is_news(&self, item: &KeyValue) -> bool {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = named.get_mut(&item.key) {
            return std::mem::replace(known, item.mod_revision) != item.mod_revision;
        }
        if named.len() >= NAMED_MAX {
            return false;
        }
        named.insert(item.key.clone(), item.mod_revision);
        if named.len() == NAMED_MAX {
            tracing::error!(NAMED_MAX, "more records cannot be read than are named here");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, revision: i64) -> KeyValue {
        KeyValue {
            key: key.as_bytes().to_vec(),
            value: Vec::new(),
            create_revision: Revision(1),
            mod_revision: Revision(revision),
            lease: None,
        }
    }

    #[test]
    fn a_key_is_news_once_and_again_when_it_was_written_anew() {
        let quarantine = Quarantine::default();
        assert!(quarantine.is_news(&item("a", 5)));
        assert!(!quarantine.is_news(&item("a", 5)));
        assert!(!quarantine.clone().is_news(&item("a", 5)), "a clone knows too");
        assert!(quarantine.is_news(&item("a", 6)));
        assert!(quarantine.is_news(&item("b", 5)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let quarantine = Quarantine::default();
        let news = |number| quarantine.is_news(&item(&format!("{number:04}"), 1));
        assert_eq!((0..2 * NAMED_MAX).filter(|number| news(*number)).count(), NAMED_MAX);
        assert!(!news(0));
    }

    #[test]
    fn only_what_cannot_be_read_is_named() {
        let quarantine = Quarantine::default();
        assert_eq!(quarantine.read(&item("a", 1), Ok::<_, fmt::Error>(7)), Some(7));
        assert!(quarantine.is_news(&item("a", 1)));
        assert_eq!(quarantine.read::<u8, _>(&item("b", 1), Err("torn")), None);
        assert!(!quarantine.is_news(&item("b", 1)));
    }
}
