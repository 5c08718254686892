//! Who a command may run as.
//!
//! Switching needs root: without it only the refusals are proved. The account is `nobody`, which
//! every host has, and what it must show is compared with what `id` says of it, so that the host's
//! own numbers and groups are in no test.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn as_user(user: &str, line: &str) -> Action {
    let mut command = shell_command(line);
    command.user = Some(user.to_owned());
    Action::Command(command)
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

#[tokio::test]
async fn a_user_that_is_not_allowed_is_refused_by_name() {
    let mut bench = Bench::with(|config| config.allow_users = vec!["no-such-user".to_owned()]);
    for user in ["daemon", "never-heard-of"] {
        let finished = bench.outcome(as_user(user, "id")).await;
        let expected = format!("user {user:?} is not in allow_users of this agent");
        assert_eq!((reason(&finished), finished.started_at), (expected.as_str(), None));
    }
    let finished = bench.outcome(as_user("no-such-user", "id")).await;
    assert_eq!(reason(&finished), "user \"no-such-user\" does not exist on this host");
}

#[tokio::test]
async fn the_agents_own_user_is_always_allowed() {
    if !is_root() {
        return;
    }
    let finished = Bench::new().outcome(as_user("root", "id -u")).await;
    assert_eq!(stdout(&finished), "0\n");
}

#[tokio::test]
async fn an_allowed_user_has_its_own_groups_and_home_and_none_of_the_agents() {
    if !is_root() {
        return;
    }
    let mut bench = Bench::with(|config| config.allow_users = vec!["nobody".to_owned()]);
    let line = "id -un; id -G; id -G nobody; echo $HOME $USER $LOGNAME; pwd";
    let finished = bench.outcome(as_user("nobody", line)).await;
    let lines: Vec<String> = stdout(&finished).lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "nobody");
    assert_eq!(lines[1], lines[2]);
    assert_eq!(lines[3..], ["/nonexistent nobody nobody", "/"]);
}

#[tokio::test]
async fn another_users_tree_is_stopped_as_well() {
    if !is_root() {
        return;
    }
    let mut bench = Bench::with(|config| config.allow_users = vec!["nobody".to_owned()]);
    let ticket = bench.start(as_user("nobody", "trap '' TERM; (setsid sleep 3210 &); sleep 3210"));
    eventually("the tree is up", || processes("3210") == 2).await;
    bench.executors.cancel(ticket);
    assert_eq!(bench.end(ticket).await.end, AttemptEnd::Cancelled);
    assert_eq!(processes("3210"), 0);
}

#[tokio::test]
async fn what_the_user_may_not_enter_fails_and_says_so() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let mut bench = Bench::with(|config| config.allow_users = vec!["nobody".to_owned()]);
    let mut command = shell_command("pwd");
    command.user = Some("nobody".to_owned());
    command.cwd = Some(folder.path().display().to_string());
    let finished = bench.outcome(Action::Command(command)).await;
    assert!(reason(&finished).contains("as nobody: Permission denied"), "{}", reason(&finished));
    assert_eq!(finished.started_at, None);
}
