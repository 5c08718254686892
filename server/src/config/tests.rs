//! Precedence, refusals and what `--check` prints, told through command lines.

use clap::{CommandFactory, Parser};

use super::*;
use crate::args::Cli;
use crate::args::Command::Daemon;

/// What a test starts from: a command line, an environment and a file.
#[derive(Default)]
struct Setting {
    environment: Environment,
    file: Option<tempfile::NamedTempFile>,
}

impl Setting {
    fn env(mut self, name: &str, value: &str) -> Setting {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(mut self, text: &str) -> Setting {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        self.environment.insert("TOCKTOWER_CONFIG".to_owned(), file.path().display().to_string());
        self.file = Some(file);
        self
    }

    fn load(&self, line: &str) -> Result<Loaded, Problems> {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Daemon(daemon) = cli.command else { panic!("no daemon: {line}") };
        load(&daemon, &self.environment)
    }

    fn agent(&self, flags: &str) -> AgentConfig {
        let line = format!("tocktower agent --name a --etcd http://127.0.0.1:2379{flags}");
        match self.load(&line).map(|loaded| loaded.config) {
            Ok(Config::Agent(config)) => config,
            Ok(_) => panic!("not an agent"),
            Err(problems) => panic!("{problems}"),
        }
    }

    fn refused(&self, line: &str) -> String {
        match self.load(line) {
            Ok(loaded) => panic!("taken:\n{}", loaded.effective),
            Err(problems) => problems.to_string(),
        }
    }
}

fn nothing() -> Setting {
    Setting::default().env("HOME", "/home/someone")
}

#[test]
fn a_flag_goes_before_the_environment_that_before_the_file_that_before_the_default() {
    let file = nothing().file("lease-ttl = '5s'\nweight = 50");
    assert_eq!(nothing().agent("").lease_ttl, Duration::from_secs(3));
    assert_eq!(file.agent("").lease_ttl, Duration::from_secs(5));
    let both = file.env("TOCKTOWER_LEASE_TTL", "6s");
    assert_eq!(both.agent("").lease_ttl, Duration::from_secs(6));
    assert_eq!(both.agent(" --lease-ttl 7s").lease_ttl, Duration::from_secs(7));
    assert_eq!(both.agent("").weight, 50);
}

#[test]
fn an_agent_is_told_everything_by_one_file() {
    let file = nothing().file(
        "etcd = ['http://10.0.0.1:2379', 'http://10.0.0.2:2379/']\n\
         name = 'web-1'\npool = 'web'\nlabel = { rack = 'b2', role = 'web' }\n\
         data-dir = '/srv/tocktower'\nmetrics-listen = '127.0.0.1:9464'\n\
         max-running = 20\nallow-users = ['backup', 'www-data']\nhttp-allow-link-local = true\n\
         history-max-age = '7d'\nhistory-max-bytes = '1GiB'\nhistory-max-runs = 100\n\
         prefix = '/other/v1/'\ncompact = false\nlog-format = 'json'\ndrain-timeout = '5s'\n",
    );
    let loaded = file.load("tocktower agent").unwrap_or_else(|problems| panic!("{problems}"));
    let common = Common {
        log_level: "info".to_owned(),
        log_format: LogFormat::Json,
        drain_timeout: Duration::from_secs(5),
    };
    assert_eq!(loaded.common, common);
    let Config::Agent(config) = loaded.config else { panic!("not an agent") };
    assert_eq!(config.etcd, ["http://10.0.0.1:2379", "http://10.0.0.2:2379"]);
    assert_eq!(config.labels.get("rack").map(String::as_str), Some("b2"));
    assert_eq!(config.labels.len(), 2);
    assert_eq!(config.allow_users, ["backup", "www-data"]);
    assert_eq!(config.running_max, 20);
    assert!(config.http_allow_link_local);
    assert!(!config.compact);
    let history = HistoryRules {
        age_max: Duration::from_secs(7 * 86_400),
        bytes_max: 1 << 30,
        runs_max: 100,
    };
    assert_eq!(config.history, history);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = nothing().env("TOCKTOWER_WEIGHT", "heavy").file("lease-tll = '3s'").refused(
        "tocktower agent --name a --etcd https://10.0.0.1:2379 --lease-ttl 1s --max-running 0",
    );
    for part in [
        "lease-ttl = \"1s\" (--lease-ttl): a duration from 2s to 8s is allowed",
        "weight = \"heavy\" (TOCKTOWER_WEIGHT): a whole number from 0 to 1000 is allowed",
        "max-running = \"0\" (--max-running): a whole number from 1 to 100000 is allowed",
        "etcd = \"https://10.0.0.1:2379\" (--etcd): http://<host>:<port> is allowed",
        "lease-tll is not a key of this daemon",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert_eq!(text.lines().count(), 5, "{text}");
}

#[test]
fn an_unknown_key_is_refused_by_name_with_those_that_there_are() {
    let text = nothing().file("etcd = 'http://a:1'").refused("tocktower dev --name a");
    assert!(text.contains("etcd is not a key of this daemon"), "{text}");
    assert!(text.contains("data-dir, drain-timeout, listen, log-format"), "{text}");
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_refused() {
    let text = nothing().file("listen = ").refused("tocktower dev --name a");
    assert!(text.contains("config = "), "{text}");
    let text = nothing().refused("tocktower dev --name a --config /nowhere/dev.toml");
    assert!(text.contains("config = \"/nowhere/dev.toml\""), "{text}");
}

#[test]
fn etcd_is_needed_by_agents_and_coordinators() {
    for daemon in ["agent --name a", "coordinator --id a"] {
        let text = nothing().refused(&format!("tocktower {daemon}"));
        assert!(text.contains("etcd is missing"), "{text}");
    }
}

#[test]
fn a_listener_off_the_loopback_needs_insecure() {
    let line = "tocktower coordinator --id a --etcd http://127.0.0.1:2379 --listen 10.0.0.7:7080";
    let text = nothing().refused(line);
    assert!(text.contains("listen = \"10.0.0.7:7080\" (--listen): there are no TLS"), "{text}");
    assert!(nothing().load(&format!("{line} --insecure")).is_ok());
    assert!(nothing().load(&format!("{line} --insecure=false")).is_err());
    let line =
        "tocktower agent --name a --etcd http://127.0.0.1:2379 --metrics-listen 0.0.0.0:9464";
    assert!(nothing().refused(line).contains("metrics-listen = \"0.0.0.0:9464\""));
    assert!(nothing().env("TOCKTOWER_INSECURE", "true").load(line).is_ok());
}

#[test]
fn dev_listens_on_the_loopback_only() {
    let insecure = nothing().env("TOCKTOWER_INSECURE", "true");
    let text = insecure.refused("tocktower dev --name a --listen 0.0.0.0:7080");
    assert!(text.contains("a loopback address is allowed"), "{text}");
    assert!(nothing().load("tocktower dev --name a --listen [::1]:7080").is_ok());
}

#[test]
fn a_coordinator_that_listens_everywhere_must_say_where_it_is_reached() {
    let line = "tocktower coordinator --id a --etcd http://127.0.0.1:2379 --listen 0.0.0.0:7080 \
                --insecure";
    assert!(nothing().refused(line).contains("advertise is missing"));
    assert!(nothing().load(&format!("{line} --advertise node-1:7080")).is_ok());
}

#[test]
fn ranges_are_a_power_of_two() {
    let line = "tocktower coordinator --id a --etcd http://127.0.0.1:2379 --ranges";
    assert!(nothing().refused(&format!("{line} 300")).contains("a power of two from 1 to 32768"));
    assert!(nothing().load(&format!("{line} 4096")).is_ok());
}

#[test]
fn an_absence_that_is_forgotten_is_no_shorter_than_an_hour() {
    let line = "tocktower coordinator --id a --etcd http://127.0.0.1:2379";
    let after = |line: &str| match nothing().load(line).map(|loaded| loaded.config) {
        Ok(Config::Coordinator(config)) => config.forget_agents_after,
        _ => panic!("not taken"),
    };
    let days = |days: u64| Duration::from_secs(days * 86_400);
    assert_eq!(after(line), days(30));
    assert_eq!(after(&format!("{line} --forget-agents-after 7d")), days(7));
    let text = nothing().refused(&format!("{line} --forget-agents-after 59m"));
    assert!(text.contains("a duration from 1h to 3660d is allowed"), "{text}");
}

#[test]
fn a_list_can_be_repeated_or_separated_by_commas() {
    let config = nothing().agent(" --label rack=b2,role=web --label tier=1");
    assert_eq!(config.labels.len(), 3);
    let env = nothing().env("TOCKTOWER_ALLOW_USERS", "backup, www-data");
    assert_eq!(env.agent("").allow_users, ["backup", "www-data"]);
}

#[test]
fn dev_keeps_its_data_where_the_user_keeps_data() {
    let folder = |setting: Setting| match setting.load("tocktower dev --name a") {
        Ok(Loaded { config: Config::Dev(config), .. }) => config.data_dir,
        _ => panic!("not taken"),
    };
    assert_eq!(folder(nothing()), PathBuf::from("/home/someone/.local/share/tocktower"));
    let moved = nothing().env("XDG_DATA_HOME", "/data");
    assert_eq!(folder(moved), PathBuf::from("/data/tocktower"));
    let text = Setting::default().refused("tocktower dev --name a");
    assert!(text.contains("data-dir is missing: HOME is not set"), "{text}");
    assert!(Setting::default().load("tocktower dev --name a --data-dir d").is_ok());
}

#[test]
fn what_is_in_effect_can_be_read_back_as_a_file() {
    let first = nothing()
        .env("TOCKTOWER_WEIGHT", "30")
        .env("TOCKTOWER_MAX_RUNNING", "010")
        .load("tocktower agent --name 007 --etcd http://127.0.0.1:2379,http://127.0.0.1:2381")
        .unwrap_or_else(|problems| panic!("{problems}"));
    let again = nothing()
        .file(&first.effective)
        .load("tocktower agent")
        .unwrap_or_else(|problems| panic!("{problems}\n{}", first.effective));
    let (Config::Agent(first), Config::Agent(again)) = (first.config, again.config) else {
        panic!("not agents")
    };
    assert_eq!(first, again);
}

#[test]
fn a_variable_that_is_no_key_is_told_by_name() {
    let setting = nothing()
        .env("TOCKTOWER_LISTNE", "127.0.0.1:1")
        // Of other daemons, of this program, and of its tests.
        .env("TOCKTOWER_WEIGHT", "30")
        .env("TOCKTOWER_TEST_ETCD", "/usr/bin/etcd")
        .file("listen = '127.0.0.1:2'");
    match setting.load("tocktower dev --name a") {
        Ok(loaded) => assert_eq!(loaded.strangers, ["TOCKTOWER_LISTNE"]),
        Err(problems) => panic!("{problems}"),
    }
}

#[test]
fn a_history_of_no_size_is_refused() {
    let agent = "tocktower agent --name a --etcd http://127.0.0.1:2379 --history-max-bytes";
    let text = nothing().refused(&format!("{agent} 0"));
    assert!(text.contains("a number of bytes, 1048576 at least"), "{text}");
    assert!(nothing().load(&format!("{agent} 1MiB")).is_ok());
}

#[test]
fn a_folder_that_cannot_be_made_is_wrong_configuration() {
    let folder = tempfile::tempdir().unwrap();
    make_data_dir(&folder.path().join("a/b")).unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for wrong in [file.clone(), file.join("inner")] {
        let error = make_data_dir(&wrong).unwrap_err();
        let problems = error.downcast_ref::<Problems>().expect("wrong configuration").to_string();
        assert!(problems.starts_with("configuration: data-dir = "), "{problems}");
    }
}

#[test]
fn a_misspelt_level_does_not_silence_the_logs() {
    let text = nothing().refused("tocktower dev --name a --log-level inof");
    assert!(text.contains("log-level = \"inof\""), "{text}");
    let filter = "tocktower dev --name a --log-level info,tocktower_agent=debug";
    assert!(nothing().load(filter).is_ok());
}

#[test]
fn the_help_tells_the_default_that_is_in_effect() {
    let told = [
        ("dev", "tocktower dev --name a"),
        ("agent", "tocktower agent --name a --etcd http://127.0.0.1:2379"),
        ("coordinator", "tocktower coordinator --id a --etcd http://127.0.0.1:2379"),
    ];
    for (daemon, line) in told {
        let loaded = nothing().load(line).unwrap_or_else(|problems| panic!("{problems}"));
        let command = Cli::command();
        let daemon = command.find_subcommand(daemon).unwrap();
        for arg in daemon.get_arguments() {
            let key = arg.get_long().unwrap();
            if matches!(key, "config" | "check" | "help") {
                continue;
            }
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let in_effect = loaded.effective.lines().find_map(|line| {
                line.strip_prefix(&format!("{key} = "))?.strip_suffix("# default").map(str::trim)
            });
            let default = in_effect.map(|text| text.trim_matches('"'));
            let told = default.is_none_or(|default| {
                let default = default.replace("/home/someone", "~");
                default == "[]" || help.contains(&format!("[default: {default}]"))
            });
            assert!(told, "--{key} tells {help:?}, in effect is {default:?}");
        }
    }
}
