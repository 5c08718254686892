//! Walks of the simulator in the test command: many seeds stay clean, one seed twice is the same
//! walk, and each rule that is broken on purpose is noticed by a checker.

use std::time::Duration;

use tocktower_core::agent::Rule;
use tocktower_tests::sim::{self, Break, DRIFTS_FROM, Tasks};

/// Walks of `make test`; the program `sim` walks thousands.
const SEEDS: u64 = 200;
/// Walks that once found something, beside these.
const FOUND: [u64; 17] = [
    283,
    724,
    5_667,
    5_942,
    9_367,
    9_549,
    280_002_359,
    280_002_969,
    280_003_489,
    310_006_604,
    340_005_334,
    350_003_580,
    350_006_042,
    410_002_524,
    450_004_524,
    520_000_514,
    530_000_114,
];
/// Walks of these in which coordinators' clocks are off.
const COORDINATORS_OFF_SEEDS: u64 = 20;
/// Walks with pinned tasks in `make test`, and those that once found something.
const PINNED_SEEDS: u64 = 60;
const PINNED_FOUND: [u64; 21] = [
    64,
    144,
    226,
    584,
    3_259,
    3_743,
    4_303,
    21_252,
    31_036,
    51_114,
    61_136,
    70_790,
    8_000_011,
    8_002_236,
    72_001_501,
    112_003_142,
    291_003_330,
    341_003_850,
    361_004_584,
    421_006_216,
    491_002_054,
];
/// Walks with pinned tasks in which all watches of a host fall silent.
const HUSHED_SEEDS: u64 = 20;
/// Walks with pinned tasks in which edits come in a row, and clocks drift.
const CLOSE_EDITS_SEEDS: u64 = 20;
/// Walks in which some tasks are of every agent, and those that once found something.
const BROADCAST_SEEDS: u64 = 30;
const BROADCAST_FOUND: [u64; 31] = [
    40_004_347,
    70_000_279,
    70_000_642,
    73_001_549,
    73_002_257,
    73_003_314,
    73_004_815,
    73_006_189,
    83_000_022,
    93_000_630,
    172_002_969,
    232_001_354,
    232_001_384,
    232_001_414,
    252_001_426,
    212_001_014,
    282_000_224,
    282_005_654,
    302_001_647,
    332_000_009,
    382_001_302,
    422_002_247,
    432_004_261,
    452_002_313,
    462_006_578,
    492_006_789,
    522_002_589,
    522_003_839,
    522_006_609,
    572_000_054,
    572_001_484,
];
/// Those of them in which etcd is put back and the epoch raised, one in ten seeds.
const RESTORED_SEEDS: u64 = 20;
const RESTORED_FOUND: [u64; 6] = [244, 2_004, 3_814, 3_984, 5_584, 5_754];
/// Walks in which watches lag behind compactions.
const LAGGING_SEEDS: u64 = 15;
/// Walks of a fleet that is left to itself for twenty minutes.
const LONG_SEEDS: u64 = 10;
/// A broken rule may be rare to show: it gets so many walks.
const BROKEN_SEEDS: u64 = 600;
/// Rules that few walks come by, each with the seed of one that does, which is walked first: the
/// others are walked where that one does not any more.
const RARELY_BROKEN: [(Break, u64); 6] = [
    (Break::Core(Rule::WriteProof), 514),
    (Break::Core(Rule::UnknownToOwn), 369),
    (Break::Core(Rule::Doubt), 129),
    (Break::Core(Rule::Clock), 104),
    (Break::Core(Rule::LateEdit), 87),
    (Break::Core(Rule::Undelivered), 78),
];

/// What a walk may cost, of one kind on average.
const CPU_MAX: Duration = Duration::from_millis(300);

/// The processor's time that this thread has had.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[test]
fn no_walk_breaks_a_promise() {
    let begun = cpu();
    let mut broken = Vec::new();
    let mut starts = 0;
    let (mut unwritten, mut settled, mut stopped, mut adopted) = (0, 0, 0, 0);
    let mut standbys = 0;
    let off = sim::COORDINATORS_OFF_FROM;
    let off = off..off + COORDINATORS_OFF_SEEDS;
    for seed in (0..SEEDS).chain(FOUND).chain(off) {
        let report = sim::walk(seed, Tasks::Pooled, None);
        starts += report.starts;
        unwritten += report.ends.0;
        settled += report.ends.1;
        stopped += report.stopped_drained;
        adopted += report.adopted;
        standbys += report.standbys;
        if !report.violations.is_empty() {
            broken.push(format!("seed {seed} ({:?}): {:#?}", report.class, report.violations));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let walks = SEEDS + COORDINATORS_OFF_SEEDS + u64::try_from(FOUND.len()).expect("few");
    let each = (cpu() - begun) / u32::try_from(walks).expect("few");
    assert!(each <= CPU_MAX, "a walk took {each:?} of a processor");
    assert!(starts > 10_000, "a walk without starts proves nothing: {starts}");
    assert!(stopped > 10, "{stopped} were drained and killed");
    assert!(adopted > 10, "{adopted} went on with a session");
    assert!(standbys > 1_000, "{standbys} copies stood by at the end: eight ranges in each walk");
    assert!(
        unwritten > 10_000 && settled > 10_000,
        "{unwritten} ends were asked for, {settled} settled"
    );
}

#[test]
fn no_walk_with_pinned_tasks_breaks_a_promise() {
    let mut broken = Vec::new();
    let (mut starts, mut crashes) = (0, 0);
    let close_edits = DRIFTS_FROM..DRIFTS_FROM + CLOSE_EDITS_SEEDS;
    for seed in (0..PINNED_SEEDS).chain(close_edits).chain(PINNED_FOUND) {
        let report = sim::walk(seed, Tasks::Pinned, None);
        starts += report.pinned;
        crashes += report.faults.get("Crash").unwrap_or(&0);
        if !report.violations.is_empty() {
            broken.push(format!("seed {seed} ({:?}): {:#?}", report.class, report.violations));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(starts > 3_000, "a walk without starts proves nothing: {starts}");
    assert!(crashes > 20, "{crashes} processes that kept pinned tasks were killed");
}

#[test]
fn what_is_pinned_and_was_deleted_behind_a_silent_watch_stops_within_40_seconds() {
    // Wherever the beat is that proves the watch.
    for seed in 0..HUSHED_SEEDS {
        let walk = sim::walk_hushed(seed);
        assert!(walk.violations.is_empty(), "seed {seed}: {:#?}", walk.violations);
        let silent = walk.deleted > Duration::from_secs(3);
        assert!(silent && walk.deleted <= Duration::from_secs(40), "seed {seed}: {walk:?}");
        assert!(walk.stays > Duration::from_secs(58), "seed {seed}: {walk:?}");
    }
}

#[test]
fn no_walk_with_tasks_of_every_agent_breaks_a_promise() {
    let mut broken = Vec::new();
    let (mut starts, mut raised) = (0, 0);
    let restored = (0..RESTORED_SEEDS).map(|number| 10 * number + 4);
    let seeds = (0..BROADCAST_SEEDS).chain(restored.skip_while(|seed| *seed < BROADCAST_SEEDS));
    for seed in seeds.chain(BROADCAST_FOUND).chain(RESTORED_FOUND) {
        let report = sim::walk(seed, Tasks::Broadcast, None);
        starts += report.shares;
        raised += report.faults.get("RaiseEpoch").unwrap_or(&0);
        if !report.violations.is_empty() {
            broken.push(format!("seed {seed} ({:?}): {:#?}", report.class, report.violations));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(starts > 10_000, "a walk without starts proves nothing: {starts}");
    assert!(raised > 20, "{raised} times the epoch was raised");
}

#[test]
fn a_seed_walked_twice_is_the_same_walk() {
    for seed in [0, 1, 2, 3, 4, 77] {
        let (one, two) =
            (sim::walk(seed, Tasks::Pooled, None), sim::walk(seed, Tasks::Pooled, None));
        assert_eq!(one.digest, two.digest, "seed {seed}");
        assert_eq!(one.starts, two.starts, "seed {seed}");
    }
}

#[test]
fn a_fleet_without_coordinators_keeps_etcd_small() {
    for seed in 0..LONG_SEEDS {
        let report = sim::walk_long(seed);
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
        // Three minutes of silence, a delay, a reading that came sooner or later; and once that
        // again where an answer was lost.
        let at: Vec<u64> = [0].into_iter().chain(report.compactions).chain([1_200]).collect();
        let gaps: Vec<u64> = at.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(at.len() >= 6, "seed {seed}: {at:?}");
        assert!(gaps.iter().all(|gap| *gap <= 540), "seed {seed}: {at:?}");
    }
}

#[test]
fn a_watch_that_lags_and_skips_events_is_not_believed() {
    let mut starts = 0;
    for seed in 0..LAGGING_SEEDS {
        let report = sim::walk_lagging(seed, None, false);
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
        starts += report.starts;
    }
    assert!(starts > 3_000, "a walk without starts proves nothing: {starts}");
}

#[test]
fn large_ledgers_are_written_on_and_on() {
    for seed in 0..3 {
        let report = sim::walk_crowd(seed);
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
        assert!(report.starts > 1_000, "a walk without starts proves nothing");
    }
}

#[test]
fn each_rule_broken_on_purpose_is_noticed() {
    for rule in Break::all() {
        let known = RARELY_BROKEN.iter().filter(|(rare, _)| *rare == rule).map(|(_, seed)| *seed);
        let noticed = known.chain(0..BROKEN_SEEDS).find(|seed| {
            let report = rule.walk(*seed, Tasks::Pooled);
            !report.violations.is_empty()
        });
        assert!(noticed.is_some(), "{rule} went unnoticed in {BROKEN_SEEDS} walks");
    }
}
