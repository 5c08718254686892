//! Cursors of lists: where the next page goes on, as text that is opaque to clients.
//!
//! Hexadecimal of what comes last on the page. It needs no state on any server, so a page can be
//! asked of one coordinator and the next of another, and it goes on at the right place although
//! what it names may be gone by then. A number of items to skip would not.

/// A cursor that no list gave out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no cursor: give the next_cursor of the page before, unchanged")]
pub struct CursorError {
    pub given: String,
}

pub fn write_text(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

pub fn read_text(cursor: &str) -> Result<String, CursorError> {
    let wrong = || CursorError { given: cursor.chars().take(64).collect() };
    if !cursor.is_ascii() || !cursor.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let bytes: Option<Vec<u8>> = (0..cursor.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(cursor.get(at..at + 2)?, 16).ok())
        .collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        assert_eq!(read_text(&write_text("default/a-b.c")), Ok("default/a-b.c".to_owned()));
        for wrong in ["6", "zz", "ü1", "ff"] {
            assert!(read_text(wrong).is_err(), "{wrong}");
        }
    }
}
