//! What this host says about itself: its time zone, its users' homes.
//!
//! Cron lives by the host's zone, so an import has to know it. It is read as the C library does:
//! `TZ`, then the link at `/etc/localtime`; a host that says nothing is on UTC. Nothing else of the
//! host is looked at, and what is read here is passed on as data, so that the import itself can be
//! tested.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::tz::TimeZone;

const ZONES: &str = "zoneinfo/";

/// The host's IANA zone; `UTC` if it cannot be told.
pub fn zone() -> String {
    let tz = std::env::var("TZ").ok();
    let link = std::fs::read_link("/etc/localtime").ok();
    zone_of(tz.as_deref(), link.as_deref())
}

fn zone_of(tz: Option<&str>, link: Option<&Path>) -> String {
    let named = |text: &str| {
        let name = text.split_once(ZONES).map_or(text, |(_, name)| name);
        // `posix/` and `right/` are copies of the database.
        let name = name.trim_start_matches("posix/").trim_start_matches("right/");
        TimeZone::get(name).ok().map(|_| name.to_owned())
    };
    let from_env = tz.and_then(|tz| named(tz.trim_start_matches(':')));
    let from_link = || link.and_then(Path::to_str).and_then(named);
    from_env.or_else(from_link).unwrap_or_else(|| "UTC".to_owned())
}

/// Home directories by user, from `/etc/passwd`.
pub fn homes() -> BTreeMap<String, String> {
    homes_of(&std::fs::read_to_string("/etc/passwd").unwrap_or_default())
}

fn homes_of(passwd: &str) -> BTreeMap<String, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, home) = (fields.next()?, fields.nth(4)?);
        (home.starts_with('/') && !name.is_empty()).then(|| (name.to_owned(), home.to_owned()))
    };
    passwd.lines().filter_map(entry).collect()
}

/// Home of whoever runs this.
pub fn own_home() -> Option<String> {
    std::env::var("HOME").ok().filter(|home| home.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_comes_from_tz_then_from_the_link() {
        let link = |text| Some(Path::new(text));
        let berlin = "/usr/share/zoneinfo/Europe/Berlin";
        assert_eq!(zone_of(Some("Asia/Tokyo"), link(berlin)), "Asia/Tokyo");
        assert_eq!(zone_of(Some(":Asia/Tokyo"), None), "Asia/Tokyo");
        assert_eq!(zone_of(None, link("../usr/share/zoneinfo/Europe/Berlin")), "Europe/Berlin");
        assert_eq!(zone_of(Some("CET-1CEST"), link(berlin)), "Europe/Berlin");
        assert_eq!(zone_of(None, link("/etc/somewhere")), "UTC");
        assert_eq!(zone_of(None, None), "UTC");
    }

    #[test]
    fn homes_are_read_from_passwd() {
        let homes = homes_of("root:x:0:0:root:/root:/bin/sh\nbroken\nx:x:1:1::relative:/bin/sh\n");
        assert_eq!(homes, BTreeMap::from([("root".to_owned(), "/root".to_owned())]));
    }
}
