//! A disk that hangs: the agent gives up what it cannot run, and comes again when it can.

use tocktower_core::agent::effect::Notice;
use tocktower_core::ids::RangeId;

use crate::words::every;
use crate::world::World;

const RANGE: RangeId = RangeId(0);

#[test]
fn with_a_store_that_does_not_answer_the_session_is_given_up_until_it_does() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(9_500);
    world.hang_disk = true;
    world.pass(3_400);
    assert!(world.shared.of(RANGE).claim.is_some(), "it may still answer");
    assert_eq!(world.started("a/task").last(), Some(&(9, 1)), "nothing starts unwritten");
    world.pass(1_200);
    assert!(world.shared.of(RANGE).claim.is_none(), "others can take the range over");
    assert!(world.agent.stats().store_stalled);
    world.pass(20_000);
    assert!(world.shared.of(RANGE).claim.is_none(), "it does not come back with such a disk");
    assert_eq!(world.told(|notice| matches!(notice, Notice::StoreStalled { .. })), 1);
    world.free_disk();
    world.pass(3_000);
    assert_eq!(world.told(|notice| matches!(notice, Notice::StoreAnswers)), 1);
    assert!(world.shared.of(RANGE).claim.is_some());
    world.pass(2_000);
    let again = world.each_ended(&world.task("a/task"), 1, 39);
    assert!(again.iter().all(|at| (8..=14).contains(at)), "open or not settled then: {again:?}");
}

#[test]
fn a_store_that_answers_slowly_is_none_that_has_stalled() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(9_500);
    for _ in 0..5 {
        world.hang_disk = true;
        world.pass(2_500);
        world.free_disk();
        world.pass(500);
    }
    assert_eq!(world.told(|notice| matches!(notice, Notice::StoreStalled { .. })), 0);
}

#[test]
fn a_process_that_was_stopped_with_its_store_has_none_that_stalled() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(9_999);
    world.hang_disk = true;
    world.pass(5);
    world.stop(20_000);
    world.pass(20_100);
    world.free_disk();
    world.pass(2_000);
    assert_eq!(world.told(|notice| matches!(notice, Notice::StoreStalled { .. })), 0);
}
