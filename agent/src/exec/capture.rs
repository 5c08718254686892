//! One output stream in bounded memory: its head, its tail, and a count of what lay between.
//!
//! A job that fails says why at the end of its output, and what it set out to do at the beginning;
//! the middle of ten gigabytes helps nobody. The head is a plain vector that stops growing, the
//! tail a ring that forgets from the front. Both start empty, since most commands say nothing.
//! Positions count every byte ever written, so that a reader who follows can tell what it missed.

use std::collections::VecDeque;

use tocktower_core::run::CapturedStream;

/// A piece of a stream for a reader who follows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Bytes before this piece that the reader can no longer have.
    pub missed: u64,
    pub bytes: Vec<u8>,
}

pub(super) struct Capture {
    /// Of the head, and again of the tail.
    bytes_max: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Capture {
    pub(super) fn new(bytes_max: usize) -> Capture {
        Capture { bytes_max, head: Vec::new(), tail: VecDeque::new(), total: 0 }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += length(bytes.len());
        let room = self.bytes_max - self.head.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(self.bytes_max)..];
        let overflow = (self.tail.len() + rest.len()).saturating_sub(self.bytes_max);
        self.tail.drain(..overflow);
        self.tail.extend(rest);
    }

    pub(super) fn snapshot(&self) -> CapturedStream {
        CapturedStream {
            head: self.head.clone(),
            tail: self.tail.iter().copied().collect(),
            dropped: self.total - length(self.head.len()) - length(self.tail.len()),
        }
    }

    /// What is kept from `position` on: the rest of the head first, the tail at the next call.
    pub(super) fn read_from(&self, position: u64) -> Chunk {
        if position < length(self.head.len()) {
            let start = usize::try_from(position).expect("within the head");
            return Chunk { missed: 0, bytes: self.head[start..].to_vec() };
        }
        let tail_at = self.total - length(self.tail.len());
        let skip = usize::try_from(position.saturating_sub(tail_at)).expect("within the tail");
        Chunk {
            missed: tail_at.saturating_sub(position),
            bytes: self.tail.iter().skip(skip).copied().collect(),
        }
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a length fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pushes: &[&str], head: &str, tail: &str, dropped: u64) {
        let mut capture = Capture::new(4);
        for push in pushes {
            capture.push(push.as_bytes());
        }
        let expected = CapturedStream { head: head.into(), tail: tail.into(), dropped };
        assert_eq!(capture.snapshot(), expected, "{pushes:?}");
    }

    #[test]
    fn the_head_fills_first_and_the_tail_forgets_from_the_front() {
        check(&[], "", "", 0);
        check(&["abc"], "abc", "", 0);
        check(&["abcd"], "abcd", "", 0);
        check(&["abc", "def"], "abcd", "ef", 0);
        check(&["abcdefgh"], "abcd", "efgh", 0);
        check(&["abcdefghi"], "abcd", "fghi", 1);
        check(&["abcdefgh", "i", "jklmnopq"], "abcd", "nopq", 9);
    }

    #[test]
    fn a_reader_who_follows_is_told_what_it_missed() {
        let mut capture = Capture::new(4);
        capture.push(b"ab");
        assert_eq!(capture.read_from(0), Chunk { missed: 0, bytes: b"ab".to_vec() });
        assert_eq!(capture.read_from(2), Chunk { missed: 0, bytes: Vec::new() });
        capture.push(b"cdefghij");
        assert_eq!(capture.read_from(2), Chunk { missed: 0, bytes: b"cd".to_vec() });
        assert_eq!(capture.read_from(4), Chunk { missed: 2, bytes: b"ghij".to_vec() });
        assert_eq!(capture.read_from(8), Chunk { missed: 0, bytes: b"ij".to_vec() });
        assert_eq!(capture.read_from(10), Chunk { missed: 0, bytes: Vec::new() });
    }
}
