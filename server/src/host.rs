//! What this host calls itself.

/// What tells this host from others even if two have one name: the machine id, else the name.
pub fn id() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let id = id.trim();
    if id.is_empty() { name() } else { id.to_owned() }
}

/// The host's name in the form of our names: without its domain's capitals. Whether it is allowed
/// is looked at like any value: a host called `-x` gets told so by name.
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}
