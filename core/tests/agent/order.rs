//! Clients that change a task, and what its open runs and later instants make of it; several
//! changes that the watch brings at once are taken in one after the other.

use tocktower_core::task::Spec;
use tocktower_core::time::Wall;

use crate::words::every;
use crate::world::World;

#[test]
fn an_edit_that_leaves_the_instants_alone_says_nothing_of_those_that_have_been() {
    // The task is not near: its last instant is covered and forgotten, its next is far ahead.
    let mut world = World::new(1, 10);
    world.create(every("a/task", 60));
    world.pass(145_000);
    assert_eq!(world.started("a/task"), [(60, 1), (120, 1)]);
    world.edit("a/task", |spec| Spec { description: "other words".to_owned(), ..spec });
    world.pass(5_000);
    world.pause("a/task");
    world.pass(5_000);
    assert_eq!(world.history("a/task"), ["60 succeeded", "120 succeeded"]);
    let begin = Wall::from_millis(world.at_second(0).millis());
    assert!(world.task("a/task").effective_from <= begin, "the instants are those of the beginning");
}
