//! Who may listen where.
//!
//! There is no TLS and there are no tokens yet: whoever reaches a listener may run commands on the
//! fleet. So a listener off the loopback is refused unless someone has said that the network in
//! front of it is theirs.

use std::net::SocketAddr;

use super::read::Reader;

pub fn loopback_unless_insecure(
    reader: &mut Reader,
    key: &'static str,
    address: Option<SocketAddr>,
    insecure: Option<bool>,
) {
    let Some(address) = address else { return };
    if address.ip().is_loopback() || insecure == Some(true) {
        return;
    }
    let allowed = "there are no TLS and no tokens yet, so a loopback address is allowed, or any \
                   with insecure = true";
    reader.refuse_as_given(key, allowed.to_owned());
}
