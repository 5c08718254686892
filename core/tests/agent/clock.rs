//! An agent whose wall clock is set: what it had put off by the clock as it was.

use crate::words::{failed, retried};
use crate::world::World;

#[test]
fn a_retry_waits_no_longer_than_its_backoff_when_the_clock_is_set_back() {
    for another_holding in [false, true] {
        let mut world = World::new(1, 10);
        world.create(retried(world.once("a/once", 45), 2, 5));
        world.conduct("a/once", 1, &[failed()]);
        world.pass(40_000);
        world.ahead_ms = 70_000;
        world.pass(4_000);
        assert_eq!(world.started("a/once"), [(45, 1)], "its clock says so");
        world.ahead_ms = 0;
        if another_holding {
            // The time at which it goes on is in the ledger.
            world.pass(1_100);
            world.shared.end_lease();
        }
        world.pass(12_000);
        assert_eq!(world.started("a/once"), [(45, 1), (45, 2)]);
        assert_eq!(world.history("a/once"), ["45 succeeded"]);
    }
}
