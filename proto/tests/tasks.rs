//! A task keeps its meaning over every border: JSON, proto, the shared state, an agent's store.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::Date;
use proptest::prelude::*;
use serde_json::{Value, json};
use tocktower_core::hash::task_hash;
use tocktower_core::ids::{AgentName, Epoch, Incarnation, PoolName, Revision, TaskName};
use tocktower_core::schedule::{Cron, Dialect, Every, Fold, Gap, Schedule, Zone};
use tocktower_core::task::{
    Action, Broadcast, CatchUp, CatchUpPolicy, Command, Delivery, Http, NewVersion, Overlap,
    Placement, Prior, Program, Retry, Spec, Task, check,
};
use tocktower_core::time::{Instant, Wall};
use tocktower_proto::convert::{
    DecodeError, Given, Purpose, StoredTask, TaskStatus, apply_mask, decode_task, decode_task_row,
    encode_task, encode_task_row, patch_task, task_from_proto, task_from_value, task_json,
    task_proto,
};
use tocktower_proto::v1;

const EDIT: Given<'static> =
    Given { namespace: None, name: None, fresh_name: "fresh", purpose: Purpose::Edit };

fn any_span() -> impl Strategy<Value = Duration> {
    (0_u64..1_000_000_000).prop_map(Duration::from_millis)
}

fn any_wall() -> impl Strategy<Value = Wall> {
    (0..=Wall::MAX.micros()).prop_map(Wall::from_micros)
}

fn name() -> TaskName {
    TaskName::parse("default/nightly").unwrap()
}

fn cron((expression, quartz, zone, gap, fold): (usize, bool, usize, bool, usize)) -> Schedule {
    let crontab = ["30 2 * * *", "H H(1-5) * * mon-fri", "*/10 * * * * *", "@daily"];
    let quartz_forms = ["0 30 2 ? * MON-FRI", "0 0 12 L * ?", "0 0/5 * * * ?", "0 0 1 1 1 ? 2030"];
    let (text, dialect) = match quartz {
        true => (quartz_forms[expression], Dialect::Quartz),
        false => (crontab[expression], Dialect::Crontab),
    };
    let zone = Zone::parse(["UTC", "Europe/Berlin", "America/New_York"][zone]).unwrap();
    let gap = if gap { Gap::Skip } else { Gap::After };
    let fold = [Fold::First, Fold::Second, Fold::Both][fold];
    Schedule::Cron(Cron::parse(text, dialect, zone, gap, fold, task_hash(&name())).unwrap())
}

fn any_schedules() -> impl Strategy<Value = Vec<Schedule>> {
    let once = (0..=Instant::MAX.millis()).prop_map(|ms| Schedule::At(Instant::from_millis(ms)));
    let every = (1_000_u64..100_000_000, 0_u64..200_000_000).prop_map(|(every, phase)| {
        let (every, phase) = (Duration::from_millis(every), Duration::from_millis(phase));
        Schedule::Every(Every::new(every, phase).unwrap())
    });
    let cron = (0_usize..4, any::<bool>(), 0_usize..3, any::<bool>(), 0_usize..3).prop_map(cron);
    prop_oneof![
        once.prop_map(|once| vec![once]),
        proptest::collection::vec(prop_oneof![every, cron], 1..4),
    ]
}

fn any_action() -> impl Strategy<Value = Action> {
    let text = "[ -~äß\n]{0,12}";
    let map = || proptest::collection::btree_map("[A-Z]{1,5}", text, 0..3);
    let program = prop_oneof![
        proptest::collection::vec("[!-~]{1,8}", 1..4).prop_map(Program::Argv),
        "[!-~]{1,20}".prop_map(Program::Shell),
    ];
    let command = (
        program,
        map(),
        proptest::option::of("/[a-z]{0,5}"),
        proptest::option::of("[a-z]{1,5}"),
        proptest::option::of(text),
        proptest::collection::vec(0..=255, 1..3),
    );
    let status = (100_u16..=599, 100_u16..=599).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let http = (
        prop_oneof![Just("GET"), Just("POST")],
        "https?://[a-z]{1,8}/[a-z]{0,5}",
        proptest::collection::btree_map("X-[A-Z]{1,5}", "[ -~]{0,12}", 0..3),
        proptest::option::of(text),
        proptest::collection::vec(status, 1..3),
    );
    prop_oneof![
        Just(Action::Noop),
        command.prop_map(|(program, env, cwd, user, stdin, success_codes)| {
            Action::Command(Command { program, env, cwd, user, stdin, success_codes })
        }),
        http.prop_map(|(method, url, headers, body, success_status)| {
            Action::Http(Http { method: method.into(), url, headers, body, success_status })
        }),
    ]
}

fn any_policies() -> impl Strategy<Value = (Delivery, CatchUp, Overlap, Retry)> {
    let policy = prop_oneof![
        Just(CatchUpPolicy::None),
        Just(CatchUpPolicy::Latest),
        Just(CatchUpPolicy::All),
    ];
    let overlap = prop_oneof![
        Just(Overlap::Skip),
        Just(Overlap::Allow),
        Just(Overlap::Queue),
        Just(Overlap::CancelRunning),
    ];
    let retry = (1_u32..100, any_span(), 1.0_f64..100.0, 0.0_f64..=1.0).prop_map(
        |(max_attempts, backoff, factor, jitter)| Retry {
            max_attempts,
            backoff,
            factor,
            max_backoff: backoff * 2,
            jitter,
        },
    );
    let catch_up = (policy, any_span()).prop_map(|(policy, window)| CatchUp { policy, window });
    let delivery = prop_oneof![Just(Delivery::AtLeastOnce), Just(Delivery::AtMostOnce)];
    (delivery, catch_up, overlap, retry)
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let days = proptest::collection::btree_set((1970_i16..2100, 1_i8..=12, 1_i8..=28), 0..4)
        .prop_map(|days| {
            let date = |(year, month, day)| Date::new(year, month, day).unwrap();
            days.into_iter().map(date).collect::<BTreeSet<Date>>()
        });
    let labels = proptest::collection::btree_map("[a-z]{1,8}", "[a-zA-Z0-9=, ]{0,8}", 0..3);
    let spans = (any_span(), proptest::option::of(any_span()), any::<i32>(), any::<bool>());
    let window = proptest::option::of((0_i64..1_000_000_000, 1_u64..1_000_000_000));
    (
        (any_schedules(), any_action(), any_policies(), days, labels),
        (spans, window, proptest::option::of(1_u64..100_000), "[ -~]{0,30}"),
    )
        .prop_map(|((schedules, action, policies, exclude, labels), rest)| {
            let ((jitter, timeout, priority, paused), window, max_runs, description) = rest;
            let (delivery, catch_up, overlap, retry) = policies;
            let start_at = window.map(|(start, _)| Wall::from_micros(start));
            let pool = PoolName::parse("edge").unwrap();
            let recurs = !matches!(schedules.as_slice(), [Schedule::At(_)]);
            let mut broadcast = Broadcast::default();
            let placement = match (paused, priority > 0) {
                (true, _) => Placement::Agent(AgentName::parse("web-12").unwrap()),
                (false, true) if recurs => {
                    broadcast = Broadcast { labels: labels.clone(), splay: jitter };
                    Placement::EveryAgent(pool)
                }
                (false, _) => Placement::Pool(pool),
            };
            Spec {
                broadcast,
                name: name(),
                description,
                labels,
                schedules,
                start_at,
                end_at: window.map(|(start, length)| {
                    Wall::from_micros(start).plus(Duration::from_micros(length))
                }),
                max_runs,
                jitter,
                exclude,
                action,
                placement,
                delivery,
                catch_up,
                overlap,
                retry,
                timeout: timeout.filter(|timeout| !timeout.is_zero()),
                start_deadline: None,
                priority,
                paused,
            }
        })
}

fn any_task() -> impl Strategy<Value = Task> {
    let times = (any_wall(), any_wall(), any_wall(), proptest::option::of(any_wall()));
    let numbers = (any::<u32>(), 1_i64.., 1_i64.., proptest::option::of(any::<u128>()));
    let prior = proptest::collection::vec(any_prior(), 0..3);
    (any_spec(), times, numbers, prior).prop_map(
        |(spec, times, (epoch, created, revision, request), prior)| Task {
            spec,
            incarnation: Incarnation { epoch: Epoch(epoch), revision: Revision(created) },
            revision: Revision(revision),
            created_at: times.0,
            updated_at: times.1,
            effective_from: times.2,
            instants_by: request.map(|_| Revision(created)),
            last_instant: times.3.map(Wall::instant),
            request,
            prior,
            share_of: None,
        },
    )
}

fn any_prior() -> impl Strategy<Value = Prior> {
    (any_spec(), any_wall(), any_wall()).prop_map(|(spec, from, until)| Prior {
        schedules: spec.schedules,
        start_at: spec.start_at,
        end_at: spec.end_at,
        exclude: spec.exclude,
        jitter: spec.jitter,
        splay: spec.broadcast.splay,
        last_instant: spec.start_at.map(Wall::instant),
        paused: spec.paused,
        from,
        until,
        revision: Revision(7),
    })
}

fn version(task: &Task) -> NewVersion {
    NewVersion {
        spec: task.spec.clone(),
        created_at: task.created_at,
        updated_at: task.updated_at,
        effective_from: task.effective_from,
        instants_by: task.instants_by,
        last_instant: task.last_instant,
        request: task.request,
        prior: task.prior.clone(),
        moved: false,
    }
}

fn stored(task: &Task) -> StoredTask {
    StoredTask {
        name: task.spec.name.clone(),
        placement: task.spec.placement.clone(),
        create_revision: task.incarnation.revision,
        mod_revision: task.revision,
    }
}

proptest! {
    #[test]
    fn the_tasks_of_this_test_keep_the_rules(spec in any_spec()) {
        prop_assert_eq!(check(&spec), Vec::new());
    }

    #[test]
    fn a_task_that_was_read_with_get_can_be_sent_back(task in any_task()) {
        let status = TaskStatus::at(&task, Wall::MIN);
        let shown = serde_json::to_value(task_json(&task, &status)).unwrap();
        prop_assert_eq!(task_from_value(shown, EDIT), Ok(task.spec));
    }

    #[test]
    fn a_task_passes_through_proto(task in any_task()) {
        let shown = task_proto(&task, &TaskStatus::at(&task, Wall::MIN));
        prop_assert_eq!(task_from_proto(&shown, EDIT), Ok(task.spec));
    }

    #[test]
    fn a_task_passes_through_the_shared_state(task in any_task()) {
        let bytes = encode_task(&version(&task), task.incarnation.epoch);
        prop_assert_eq!(decode_task(&bytes, stored(&task)), Ok(task));
    }

    #[test]
    fn a_task_passes_through_an_agents_store(task in any_task()) {
        prop_assert_eq!(decode_task_row(&encode_task_row(&task)), Ok(task));
    }

    #[test]
    fn one_task_has_one_encoding(task in any_task()) {
        let once = encode_task(&version(&task), Epoch(1));
        prop_assert_eq!(once, encode_task(&version(&task.clone()), Epoch(1)));
    }

    #[test]
    fn any_bytes_are_a_task_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let task = StoredTask {
            name: name(),
            placement: PoolName::parse("default").unwrap().into(),
            create_revision: Revision(1),
            mod_revision: Revision(2),
        };
        let _ = decode_task(&bytes, task.clone());
        let _ = decode_task(&[&[1], bytes.as_slice()].concat(), task);
        let _ = decode_task_row(&[&[1], bytes.as_slice()].concat());
    }

    #[test]
    fn a_damaged_record_is_a_task_or_an_error(
        task in any_task(),
        place: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let mut bytes = encode_task(&version(&task), Epoch(1));
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let _ = decode_task(&bytes, stored(&task));
    }
}

fn minimal() -> Value {
    json!({"name": "a", "schedules": [{"cron": "30 2 * * *"}], "action": {"noop": {}}})
}

fn paths(body: Value) -> Vec<String> {
    let errors = task_from_value(body, EDIT).unwrap_err();
    errors.into_iter().map(|error| error.path).collect()
}

#[test]
fn what_is_left_out_takes_the_defaults_of_the_design() {
    let spec = task_from_value(minimal(), EDIT).unwrap();
    assert_eq!(spec.name.to_string(), "default/a");
    assert_eq!(spec.placement.to_string(), "pool default");
    assert_eq!(spec.catch_up.policy, CatchUpPolicy::Latest);
    assert_eq!(spec.catch_up.window, Duration::from_secs(3_600));
    assert_eq!(spec.overlap, Overlap::Skip);
    assert_eq!(spec.retry, Retry::default());
    let Some(Schedule::Cron(cron)) = spec.schedules.first() else { panic!("{spec:?}") };
    assert_eq!((cron.gap(), cron.fold()), (Gap::After, Fold::First));
    assert_eq!((cron.dialect(), cron.zone().name()), (Dialect::Crontab, "UTC"));

    let once = json!({"schedules": [{"at": "2030-01-01T00:00:00Z"}], "action": {"noop": {}}});
    let spec = task_from_value(once, EDIT).unwrap();
    assert_eq!(spec.name.name.as_str(), "fresh");
    assert_eq!(spec.catch_up.policy, CatchUpPolicy::All);
    assert_eq!(spec.catch_up.window, Duration::from_secs(7 * 86_400));
}

#[test]
fn all_wrong_fields_are_reported_at_once() {
    let mut found = paths(json!({
        "name": "Not A Name",
        "notify": ["ops"],
        "schedules": [
            {"cron": "61 * * * *", "time_zone": "Europe/Bärlin", "gap": "perhaps"},
            {"every": "15 minutes"},
            {"at": "tomorrow"},
            {"cron": "* * * * *", "every": "5m"},
            {"every": "5m", "time_zone": "UTC"},
            {},
        ],
        "action": {"command": {"argv": [], "cwd": "x", "env": {"A": 5}}},
        "placement": {"every_agent": "web"},
        "catch_up": {"policy": "some", "window": "1 hour"},
        "overlap": "maybe",
        "retry": {"max_attempts": 0, "factor": 0.5},
        "exclude": {"dates": ["2026-02-30"]},
        "timeout": 90,
    }));
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "action.command.argv",
            "action.command.cwd",
            "action.command.env.A",
            "catch_up.policy",
            "catch_up.window",
            "exclude.dates[0]",
            "name",
            "notify",
            "overlap",
            "placement.every_agent",
            "retry.factor",
            "retry.max_attempts",
            "schedules[0].cron",
            "schedules[0].gap",
            "schedules[0].time_zone",
            "schedules[1].every",
            "schedules[2].at",
            "schedules[3]",
            "schedules[4].time_zone",
            "schedules[5]",
            "timeout",
        ]
    );
}

#[test]
fn a_task_of_every_agent_says_which_agents_and_recurs() {
    let mut body = minimal();
    body["placement"] = json!({"every_agent": {"labels": {"role": "web"}, "splay": "30s"}});
    let spec = task_from_value(body.clone(), EDIT).unwrap();
    assert_eq!(spec.placement, Placement::EveryAgent(PoolName::parse("default").unwrap()));
    let labels = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
    assert_eq!(spec.broadcast, Broadcast { labels, splay: Duration::from_secs(30) });

    body["placement"] = json!({"every_agent": {}, "pool": "default"});
    assert_eq!(paths(body.clone()), ["placement"]);
    body["placement"] = json!({"every_agent": {"pool": "No", "splay": "soon", "weight": 1}});
    let mut found = paths(body.clone());
    found.sort_unstable();
    let at = |field: &str| format!("placement.every_agent.{field}");
    assert_eq!(found, [at("pool"), at("splay"), at("weight")]);
    body["placement"] = json!({"every_agent": {"labels": {"a b": "x"}, "splay": "100000h"}});
    body["schedules"] = json!([{"at": "2026-11-24T10:00:00Z"}]);
    let mut found = paths(body);
    found.sort_unstable();
    assert_eq!(found, [at("labels.a b"), at("splay"), "schedules[0].at".to_owned()]);
}

#[test]
fn a_message_says_what_was_given_and_what_is_allowed() {
    let mut body = minimal();
    body["overlap"] = json!("maybe");
    let errors = task_from_value(body, EDIT).unwrap_err();
    assert_eq!(
        errors.first().unwrap().to_string(),
        "overlap: \"maybe\" is not allowed: use \"skip\", \"allow\", \"queue\", \"cancel_running\""
    );
    let mut body = minimal();
    body["delivery"] = json!("exactly_once");
    let errors = task_from_value(body, EDIT).unwrap_err();
    let told = errors.first().unwrap().to_string();
    assert!(told.contains("use \"at_least_once\", \"at_most_once\""), "{told}");
}

#[test]
fn features_that_are_not_built_are_refused_by_name() {
    for (field, value) in [("notify", json!([])), ("queue", json!("a"))] {
        let mut body = minimal();
        body[field] = value;
        let errors = task_from_value(body, EDIT).unwrap_err();
        assert!(errors.first().unwrap().message.contains(field), "{errors:?}");
    }
    let mut body = minimal();
    body["exclude"] = json!({"calendars": ["holidays"]});
    assert_eq!(paths(body), ["exclude.calendars"]);
}

#[test]
fn the_path_and_the_body_must_agree() {
    let given = Given { namespace: Some("default"), name: Some("b"), ..EDIT };
    let errors = task_from_value(minimal(), given).unwrap_err();
    assert_eq!(errors.first().unwrap().path, "name");
    let given = Given { namespace: Some("other"), ..EDIT };
    assert_eq!(task_from_value(minimal(), given).unwrap().name.to_string(), "other/a");
}

#[test]
fn the_servers_own_fields_come_back_with_an_edit_only() {
    let mut body = minimal();
    body["revision"] = json!(7);
    body["state"] = json!("paused");
    body["next_at"] = json!("2026-01-01T00:00:00Z");
    assert!(task_from_value(body.clone(), EDIT).is_ok());
    let purpose = Purpose::Create { now: Wall::MIN };
    let errors = task_from_value(body, Given { purpose, ..EDIT }).unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["revision", "next_at", "state"]);
    let errors = patch_task(&example(), &json!({"state": null, "last_run": 5})).unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["state", "last_run"]);
}

#[test]
fn a_create_needs_something_left_to_run() {
    let purpose = Purpose::Create { now: Wall::from_millis(1_900_000_000_000) };
    let mut body = minimal();
    body["end_at"] = json!("2026-01-01T00:00:00Z");
    let errors = task_from_value(body, Given { purpose, ..EDIT }).unwrap_err();
    assert_eq!(errors.first().unwrap().path, "schedules");
}

fn example() -> Task {
    let spec = task_from_value(minimal(), EDIT).unwrap();
    Task {
        spec,
        incarnation: Incarnation { epoch: Epoch(1), revision: Revision(5) },
        revision: Revision(7),
        created_at: Wall::from_millis(1_000),
        updated_at: Wall::from_millis(1_000),
        effective_from: Wall::from_millis(1_000),
        instants_by: None,
        last_instant: None,
        request: None,
        prior: Vec::new(),
        share_of: None,
    }
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let task = example();
    let patched = patch_task(&task, &json!({"timeout": "1h", "labels": {"team": "db"}})).unwrap();
    let expected = Spec {
        timeout: Some(Duration::from_secs(3_600)),
        labels: BTreeMap::from([("team".into(), "db".into())]),
        ..task.spec.clone()
    };
    assert_eq!(patched, expected);
    let back = Task { spec: patched, ..task.clone() };
    let patch = json!({"timeout": null, "labels": {"team": null}});
    assert_eq!(patch_task(&back, &patch), Ok(task.spec.clone()));
    assert_eq!(patch_task(&task, &json!({})), Ok(task.spec));
}

#[test]
fn a_patch_of_the_action_names_the_old_one_too() {
    let task = example();
    let errors = patch_task(&task, &json!({"action": {"http": {"url": "http://a"}}})).unwrap_err();
    assert!(errors.first().unwrap().message.contains("null"), "{errors:?}");
    let patch = json!({"action": {"noop": null, "http": {"url": "http://a"}}});
    assert!(matches!(patch_task(&task, &patch).unwrap().action, Action::Http(_)));
    assert!(patch_task(&task, &json!({"name": "b"})).is_err());
    assert!(patch_task(&task, &json!([])).is_err());
}

#[test]
fn a_mask_replaces_what_it_names() {
    let task = example();
    let update = v1::Task { description: "new".into(), paused: true, ..Default::default() };
    let masked = apply_mask(&task, update, &["description".into()]).unwrap();
    let expected = Spec { description: "new".into(), ..task.spec.clone() };
    assert_eq!(task_from_proto(&masked, EDIT), Ok(expected));
    assert!(apply_mask(&task, v1::Task::default(), &["revision".into()]).is_err());
}

#[test]
fn what_only_proto_can_say_wrong_has_the_path_of_json() {
    let mut task = task_proto(&example(), &TaskStatus::at(&example(), Wall::MIN));
    task.timeout = Some(prost_types::Duration { seconds: -5, nanos: 0 });
    task.jitter = Some(prost_types::Duration { seconds: 0, nanos: 5 });
    task.start_at = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 });
    task.overlap = 99;
    task.action = None;
    let errors = task_from_proto(&task, EDIT).unwrap_err();
    let mut found: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["action", "jitter", "overlap", "start_at", "timeout"]);
}

#[test]
fn the_bytes_of_a_record_do_not_change() {
    let bytes = encode_task(&version(&example()), Epoch(1));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

const GOLDEN: &str = "010801221312110a0a33302032202a202a202a1a0355544352021a0058016080dddb0172\
     1b080110e80719000000000000004020e0a712299a9999999999b93f9801c0843da001c0843da801c0843d";

#[test]
fn a_newer_format_is_named() {
    let mut bytes = encode_task(&version(&example()), Epoch(1));
    bytes[0] = 2;
    assert_eq!(decode_task(&bytes, stored(&example())), Err(DecodeError::UnknownFormat(2)));
    assert_eq!(decode_task(&[], stored(&example())), Err(DecodeError::Empty));
}
