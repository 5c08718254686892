//! What this host calls itself.

/// The host's name in the form of our names: without its domain's capitals. Whether it is allowed
/// is looked at like any value: a host called `-x` gets told so by name.
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}
