//! The frame of every stored value: one format byte, then a prost message.

use prost::Message;

/// The format of all values so far.
pub const FORMAT: u8 = 1;

/// Why a stored value could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the value is empty")]
    Empty,
    #[error("the value has format {0}; this program reads {FORMAT}")]
    UnknownFormat(u8),
    #[error("the value is damaged: {0}")]
    Malformed(String),
    /// It was read, but says something that this program does not understand.
    #[error("{field}: {problem}")]
    Invalid { field: &'static str, problem: String },
}

impl DecodeError {
    pub fn invalid(field: &'static str, problem: impl ToString) -> DecodeError {
        DecodeError::Invalid { field, problem: problem.to_string() }
    }

    pub fn missing(field: &'static str) -> DecodeError {
        DecodeError::invalid(field, "is missing")
    }
}

/// The bytes to store.
pub fn encode_record(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(FORMAT);
    message.encode(&mut bytes).expect("a Vec grows as needed");
    bytes
}

/// The message in stored bytes.
pub fn decode_record<M: Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    match bytes.split_first() {
        None => Err(DecodeError::Empty),
        Some((&FORMAT, rest)) => {
            M::decode(rest).map_err(|error| DecodeError::Malformed(error.to_string()))
        }
        Some((&other, _)) => Err(DecodeError::UnknownFormat(other)),
    }
}
