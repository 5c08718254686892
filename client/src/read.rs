//! What was read, and how far it can be trusted.
//!
//! Coordinators answer reads from their copy of the shared state, also while that cannot be
//! reached: what was last known is better than nothing, as long as it says so. Whoever shows an
//! answer to a person, or decides by it, should look at `stale`; it is a value beside the answer
//! and not a field of each thing that was read, as an empty list can be out of date, too.

/// What was read, and whether it may be out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read<T> {
    pub value: T,
    /// The server cannot reach the shared state: this is what it last knew.
    pub stale: bool,
}

impl<T> Read<T> {
    /// The same, as something else.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Read<U> {
        Read { value: change(self.value), stale: self.stale }
    }
}
