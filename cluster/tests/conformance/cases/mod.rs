//! The cases, and the table that every adapter runs.

mod compaction;
mod leases;
mod lists;
mod transactions;
mod watches;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tocktower_cluster::port::Port;

use crate::vocabulary::Store;

type Case = (&'static str, fn(Store) -> BoxFuture<'static, ()>);

macro_rules! cases {
    ($($module:ident: $($case:ident),+ $(,)?;)+) => {
        const CASES: &[Case] = &[$($(
            (
                concat!(stringify!($module), "::", stringify!($case)),
                |store| $module::$case(store).boxed(),
            )
        ),+),+];
    };
}

cases! {
    transactions:
        take_one_of_two_branches,
        compare_revisions,
        have_one_revision,
        evaluate_nested_compares_before_anything_is_applied,
        show_their_own_writes_to_gets,
        that_write_nothing_keep_the_revision,
        put_a_key_once,
        may_put_a_key_in_either_branch,
        count_operations_along_the_path,
        need_keys,
        of_too_many_bytes_are_refused,
        with_a_dead_lease_do_nothing;
    lists:
        come_in_pages,
        leave_values_out,
        show_an_earlier_revision,
        page_through_an_earlier_revision,
        are_refused_if_they_make_no_sense;
    watches:
        start_in_the_past,
        start_in_the_future,
        bring_revisions_whole,
        show_deletes,
        share_a_stream,
        can_be_closed,
        wait_for_slow_readers;
    leases:
        take_their_keys_along_when_they_expire,
        live_as_long_as_they_are_kept_alive,
        can_be_revoked,
        let_go_of_keys_that_were_put_again;
    compaction:
        forgets_what_was_before,
        is_won_by_one_of_two_agents,
        leaves_a_record_alone_that_it_cannot_read;
}

/// Runs every case on one store, one after another.
pub async fn run(port: Arc<dyn Port>) {
    for (name, case) in CASES {
        let begun = std::time::Instant::now();
        let ended = tokio::spawn(case(Store::new(port.clone()))).await;
        assert!(ended.is_ok(), "{name} failed, see above");
        println!("{name}: {:?}", begun.elapsed());
    }
}
