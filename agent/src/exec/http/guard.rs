//! Where a request must not go. Clouds hand out a host's credentials at link-local addresses to
//! whoever asks from that host, so a task could read them through the agent. They are refused
//! unless the agent's configuration says otherwise.
//!
//! A name may lead anywhere, and elsewhere the next time it is asked for: so the check sits in the
//! resolver, on the very addresses that the client then connects to. Addresses written out in
//! a URL never reach a resolver and are checked there, first and at each redirect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};

use crate::exec::limits;

/// A target that is refused.
#[derive(Debug, thiserror::Error)]
#[error("{target} is a link-local or metadata address, which this agent refuses")]
pub(super) struct Denied {
    target: String,
}

#[derive(Debug, thiserror::Error)]
enum RedirectError {
    #[error("more than {} redirects", limits::HTTP_REDIRECTS_MAX)]
    TooMany,
    #[error("a redirect to {scheme}:, which is not HTTP")]
    Scheme { scheme: String },
    #[error(transparent)]
    Denied(Denied),
}

#[derive(Clone, Copy)]
pub(super) struct Guard {
    pub(super) deny_link_local: bool,
}

impl Guard {
    /// Checks an address that is written out; a name is checked once it is resolved.
    pub(super) fn check_url(self, url: &Url) -> Result<(), Denied> {
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match host.parse::<IpAddr>() {
            Ok(address) if self.denies(address) => Err(Denied { target: host.to_owned() }),
            _ => Ok(()),
        }
    }

    pub(super) fn redirects(self) -> Policy {
        Policy::custom(move |attempt| self.follow(attempt))
    }

    fn follow(self, attempt: Attempt<'_>) -> reqwest::redirect::Action {
        // The first of them is the request itself.
        if attempt.previous().len() > limits::HTTP_REDIRECTS_MAX {
            return attempt.error(RedirectError::TooMany);
        }
        let scheme = attempt.url().scheme();
        if !matches!(scheme, "http" | "https") {
            let scheme = scheme.to_owned();
            return attempt.error(RedirectError::Scheme { scheme });
        }
        match self.check_url(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(denied) => attempt.error(RedirectError::Denied(denied)),
        }
    }

    fn denies(self, address: IpAddr) -> bool {
        self.deny_link_local && is_denied(address)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.iter().copied().filter(|found| !guard.denies(found.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(Denied { target: name.as_str().to_owned() }.into());
            }
            let allowed: Addrs = Box::new(allowed.into_iter());
            Ok(allowed)
        })
    }
}

fn is_denied(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_denied_v4(address),
        IpAddr::V6(address) => is_denied_v6(address),
    }
}

fn is_denied_v4(address: Ipv4Addr) -> bool {
    /// The one metadata service of a large cloud that is not link-local.
    const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    address.is_link_local() || address == ALIBABA
}

fn is_denied_v6(address: Ipv6Addr) -> bool {
    const EC2: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254);
    address.is_unicast_link_local()
        || address == EC2
        || embedded_v4(address).is_some_and(is_denied_v4)
}

/// The IPv4 address inside `::ffff:a.b.c.d`, `::a.b.c.d` and NAT64's `64:ff9b::a.b.c.d`.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [prefix @ .., high, low] = address.segments();
    let embeds = matches!(
        prefix,
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0]
    );
    embeds.then(|| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, allowed: bool) {
        let guard = Guard { deny_link_local: true };
        assert_eq!(guard.check_url(&Url::parse(url).unwrap()).is_ok(), allowed, "{url}");
        let open = Guard { deny_link_local: false };
        assert!(open.check_url(&Url::parse(url).unwrap()).is_ok());
    }

    #[test]
    fn link_local_and_metadata_addresses_are_refused_in_every_spelling() {
        for host in [
            "169.254.169.254",
            "169.254.0.1",
            "0xa9fea9fe",
            "2852039166",
            "0251.0376.0251.0376",
            "169.254.43518",
            "100.100.100.200",
            "[fe80::1]",
            "[febf:ffff::1]",
            "[fd00:ec2::254]",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[::169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
        ] {
            check(&format!("http://{host}/latest/meta-data"), false);
        }
    }

    #[tokio::test]
    async fn what_a_name_leads_to_is_checked_as_well() {
        let resolve = async |name: &str| {
            let guard = Guard { deny_link_local: true };
            guard.resolve(name.parse().unwrap()).await.map(Iterator::count)
        };
        assert!(resolve("localhost").await.unwrap() > 0);
        // To the resolver an address is a name like any other.
        let denied = resolve("169.254.169.254").await.unwrap_err();
        assert!(denied.is::<Denied>(), "{denied}");
    }

    #[test]
    fn other_addresses_and_names_pass() {
        for host in [
            "127.0.0.1",
            "10.0.0.1",
            "169.253.1.1",
            "[::1]",
            "[fd00::1]",
            "[::ffff:10.0.0.1]",
            "a.example",
        ] {
            check(&format!("http://{host}:8080/"), true);
        }
    }
}
