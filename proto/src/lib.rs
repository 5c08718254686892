//! Everything that crosses a border: the gRPC API and the agent link (`v1`), and what is stored
//! (`store`), the REST API (`json`), and the roads between them and `core` (`convert`).
//!
//! `core` knows none of these types. A value from outside becomes a core type in the converters,
//! where it is checked once, or it does not get in.

pub mod convert;
pub mod json;

/// The public gRPC API and the link between agents and coordinators.
pub mod v1 {
    #![allow(
        clippy::all,
        clippy::unwrap_used,
        clippy::allow_attributes_without_reason,
        reason = "generated from proto/tocktower/v1"
    )]
    tonic::include_proto!("tocktower.v1");
}

/// What lies in the shared state and in agents' stores.
pub mod store {
    #![allow(
        clippy::all,
        clippy::unwrap_used,
        clippy::allow_attributes_without_reason,
        reason = "generated from proto/tocktower/store/v1"
    )]
    tonic::include_proto!("tocktower.store.v1");
}

/// Descriptor of all of the above, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("tocktower_descriptor");
