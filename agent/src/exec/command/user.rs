//! Who a command runs as: the agent's own user, or one that the agent's configuration allows.
//!
//! Whoever can write a task must not thereby become root, or anybody else, on every host of the
//! pool. So the list of users is the host's own, and a user that is not on it is refused before it
//! is looked up, which also tells a stranger nothing about the host's accounts.
//!
//! Accounts are read from `/etc/passwd` and `/etc/group`. Asking the C library instead would reach
//! directory services as well, but its lookups take raw pointers and may hang on a network.

use std::fs;
use std::io;

use rustix::process::{Gid, Uid, getuid};

use super::launch::LaunchError;
use crate::exec::ExecConfig;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// An account to switch to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// All groups, the primary one included.
    pub(super) groups: Vec<Gid>,
    pub(super) home: String,
    pub(super) shell: String,
}

/// The account to switch to; `None` if it is the agent's own.
pub(super) fn resolve(name: &str, config: &ExecConfig) -> Result<Option<User>, LaunchError> {
    let passwd = read(PASSWD)?;
    let own = getuid();
    let listed = config.allow_users.iter().any(|allowed| allowed == name);
    let user = find(name, &passwd, "");
    if user.as_ref().is_some_and(|user| user.uid == own) {
        return Ok(None);
    }
    if !listed {
        return Err(LaunchError::UserNotAllowed { user: name.to_owned() });
    }
    if user.is_none() {
        return Err(LaunchError::UserUnknown { user: name.to_owned() });
    }
    if !own.is_root() {
        return Err(LaunchError::UserNeedsRoot { user: name.to_owned() });
    }
    Ok(find(name, &passwd, &read(GROUP)?))
}

fn read(file: &'static str) -> Result<String, LaunchError> {
    // One odd byte in a comment field must not make every account unknown.
    match fs::read(file) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(cause) => Err(LaunchError::Accounts { file, cause }),
    }
}

/// `passwd` has lines `name:password:uid:gid:comment:home:shell`,
/// `group` has lines `name:password:gid:names`.
fn find(name: &str, passwd: &str, group: &str) -> Option<User> {
    let fields: Vec<&str> = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<&str>>())
        .find(|fields| fields.len() >= 7 && fields[0] == name)?;
    let uid = Uid::from_raw(fields[2].parse().ok()?);
    let gid = Gid::from_raw(fields[3].parse().ok()?);
    let mut groups = vec![gid];
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, number, members] = fields[..] else {
            continue;
        };
        if members.split(',').any(|member| member.trim() == name)
            && let Ok(number) = number.parse()
            && number != gid.as_raw()
        {
            groups.push(Gid::from_raw(number));
        }
    }
    let shell = if fields[6].is_empty() { "/bin/sh" } else { fields[6] };
    Some(User {
        name: name.to_owned(),
        uid,
        gid,
        groups,
        home: fields[5].to_owned(),
        shell: shell.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/bash\n# comment\nbroken:x\n\
        backup:x:34:34:backup:/var/backups:\nodd:x:notanumber:1::/:/bin/sh\n";
    const GROUPS: &str = "root:x:0:\nadm:x:4:syslog,backup\nbackup:x:34:backup\ndisk:x:6:backup2\n\
        tape:x:26:backup\nbroken\n";

    #[test]
    fn an_account_has_its_primary_and_its_other_groups() {
        let user = find("backup", ACCOUNTS, GROUPS).unwrap();
        assert_eq!((user.uid.as_raw(), user.gid.as_raw()), (34, 34));
        let groups: Vec<u32> = user.groups.iter().map(|group| group.as_raw()).collect();
        assert_eq!(groups, [34, 4, 26]);
        assert_eq!((user.home.as_str(), user.shell.as_str()), ("/var/backups", "/bin/sh"));
    }

    #[test]
    fn what_is_not_an_account_is_not_found() {
        for name in ["nobody-here", "broken", "odd", "", "# comment"] {
            assert_eq!(find(name, ACCOUNTS, GROUPS), None, "{name}");
        }
    }
}
