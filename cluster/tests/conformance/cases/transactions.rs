//! Transactions: what they compare, what they do, what is refused.

use std::time::Duration;

use tocktower_cluster::port::{Compare, Op, OpAnswer, PortError, Txn};
use tocktower_core::ids::{LeaseId, Revision};

use crate::vocabulary::{Store, always};

pub async fn take_one_of_two_branches(store: Store) {
    let txn = || Txn {
        when: vec![store.absent("a")],
        then: vec![store.put_op("a", "1")],
        otherwise: vec![store.get_op("a"), store.delete_op("b")],
    };
    let (revision, succeeded, answers) = store.txn(txn()).await;
    assert!(succeeded);
    assert_eq!(answers, [OpAnswer::Put]);

    let (_, succeeded, answers) = store.txn(txn()).await;
    assert!(!succeeded);
    let [OpAnswer::Got(Some(item)), OpAnswer::Deleted { count: 0 }] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!((item.key.clone(), item.value.as_slice()), (store.key("a"), &b"1"[..]));
    assert_eq!((item.create_revision, item.mod_revision), (revision, revision));
    assert_eq!(item.lease, None);
}

pub async fn compare_revisions(store: Store) {
    let created = store.put("a", "1").await;
    let modified = store.put("a", "2").await;
    let key = || store.key("a");
    let holds =
        async |compare: Compare| store.txn(Txn { when: vec![compare], ..Txn::default() }).await.1;
    assert!(holds(Compare::Created { key: key(), at: created }).await);
    assert!(!holds(Compare::Created { key: key(), at: modified }).await);
    assert!(holds(Compare::Modified { key: key(), at: modified }).await);
    assert!(!holds(Compare::Modified { key: key(), at: created }).await);
    assert!(!holds(Compare::absent(key())).await);
    assert!(holds(Compare::Modified { key: store.key("b"), at: Revision(0) }).await);

    store.delete("a").await;
    assert!(holds(Compare::absent(key())).await);
    let again = store.put("a", "3").await;
    assert!(holds(Compare::Created { key: key(), at: again }).await);
}

pub async fn have_one_revision(store: Store) {
    store.put("gone", "1").await;
    let before = store.revision().await;
    let nested = always(vec![store.put_op("b", "2"), store.put_op("c", "3")]);
    let ops = vec![store.put_op("a", "1"), Op::Txn(nested), store.delete_op("gone")];
    let (revision, answers) = store.run(ops).await;
    assert_eq!(revision, before.next());
    let nested = OpAnswer::Txn { succeeded: true, answers: vec![OpAnswer::Put, OpAnswer::Put] };
    assert_eq!(answers, [OpAnswer::Put, nested, OpAnswer::Deleted { count: 1 }]);
    for name in ["a", "b", "c"] {
        assert_eq!(store.get(name).await.unwrap().mod_revision, revision);
    }
    assert_eq!(store.revision().await, revision);
}

pub async fn evaluate_nested_compares_before_anything_is_applied(store: Store) {
    // By the time the nested transaction runs, `a` is there; its compare was made before.
    let nested = Txn {
        when: vec![store.absent("a")],
        then: vec![store.put_op("b", "then")],
        otherwise: vec![store.put_op("b", "otherwise")],
    };
    let (_, answers) = store.run(vec![store.put_op("a", "1"), Op::Txn(nested.clone())]).await;
    assert!(matches!(answers[1], OpAnswer::Txn { succeeded: true, .. }));
    assert_eq!(store.get("b").await.unwrap().value, b"then");

    let (_, answers) = store.run(vec![store.delete_op("a"), Op::Txn(nested)]).await;
    assert!(matches!(answers[1], OpAnswer::Txn { succeeded: false, .. }));
    assert_eq!(store.get("b").await.unwrap().value, b"otherwise");
}

pub async fn show_their_own_writes_to_gets(store: Store) {
    let get = || store.get_op("a");
    let nested = always(vec![get()]);
    let ops = vec![get(), store.put_op("a", "1"), get(), Op::Txn(nested)];
    let (revision, answers) = store.run(ops).await;
    assert_eq!(answers[0], OpAnswer::Got(None));
    let OpAnswer::Got(Some(seen)) = &answers[2] else { panic!("{answers:?}") };
    assert_eq!((seen.value.as_slice(), seen.mod_revision), (&b"1"[..], revision));
    let OpAnswer::Txn { answers: nested, .. } = &answers[3] else { panic!("{answers:?}") };
    assert_eq!(nested[0], answers[2]);

    let (_, answers) = store.run(vec![store.delete_op("a"), get()]).await;
    assert_eq!(answers, [OpAnswer::Deleted { count: 1 }, OpAnswer::Got(None)]);
}

pub async fn that_write_nothing_keep_the_revision(store: Store) {
    let before = store.put("a", "1").await;
    assert_eq!(store.run(vec![]).await.0, before);
    assert_eq!(store.run(vec![store.get_op("a"), store.delete_op("none")]).await.0, before);
    let nested = Txn {
        when: vec![store.absent("a")],
        then: vec![store.put_op("b", "1")],
        otherwise: vec![],
    };
    assert_eq!(store.run(vec![Op::Txn(nested)]).await.0, before);
    assert_eq!(store.revision().await, before);
}

pub async fn put_a_key_once(store: Store) {
    let put = || store.put_op("a", "1");
    let delete = || store.delete_op("a");
    let nested = |op: Op| Op::Txn(always(vec![op]));
    let refused = [
        vec![put(), put()],
        vec![put(), delete()],
        vec![delete(), put()],
        vec![put(), nested(put())],
        vec![nested(put()), put()],
        vec![nested(put()), nested(put())],
        vec![delete(), nested(put())],
        vec![nested(put()), delete()],
        vec![put(), nested(delete())],
        vec![nested(delete()), nested(put())],
    ];
    for ops in refused {
        let before = store.revision().await;
        let error = store.try_txn(always(ops.clone())).await.unwrap_err();
        assert!(matches!(error, PortError::Refused(_)), "{ops:?}: {error:?}");
        let otherwise = Txn { when: vec![], then: vec![], otherwise: ops };
        let error = store.try_txn(otherwise).await.unwrap_err();
        assert!(error.refused() && !error.retryable(), "{error:?}");
        assert_eq!(store.revision().await, before);
    }
    assert_eq!(store.get("a").await, None);

    // The order that slips through: both happen, and the delete is the last word.
    let (_, answers) = store.run(vec![nested(put()), nested(delete())]).await;
    let deleted = OpAnswer::Txn { succeeded: true, answers: vec![OpAnswer::Deleted { count: 1 }] };
    assert_eq!(answers[1], deleted);
    assert_eq!(store.get("a").await, None);
    store.run(vec![delete(), delete()]).await;
}

pub async fn may_put_a_key_in_either_branch(store: Store) {
    let nested = Txn {
        when: vec![store.absent("a")],
        then: vec![store.put_op("a", "new")],
        otherwise: vec![store.put_op("a", "old")],
    };
    store.run(vec![Op::Txn(nested.clone())]).await;
    assert_eq!(store.get("a").await.unwrap().value, b"new");
    store.run(vec![Op::Txn(nested)]).await;
    assert_eq!(store.get("a").await.unwrap().value, b"old");
}

pub async fn count_operations_along_the_path(store: Store) {
    let puts = |from: usize, count: usize| -> Vec<Op> {
        (from..from + count).map(|number| store.put_op(&format!("{number:05}"), "")).collect()
    };
    let batches = |count: usize, each: usize| -> Vec<Op> {
        (0..count).map(|batch| Op::Txn(always(puts(batch * each, each)))).collect()
    };
    store.run(puts(0, 128)).await;
    store.run(batches(8, 120)).await;
    store.run(batches(120, 8)).await;
    for ops in [puts(0, 129), batches(8, 121), batches(120, 9)] {
        let error = store.try_txn(always(ops)).await.unwrap_err();
        assert!(matches!(error, PortError::Refused(_)), "{error:?}");
    }
    let compares = |count| (0..count).map(|_| store.absent("none")).collect();
    store.txn(Txn { when: compares(128), ..Txn::default() }).await;
    let many = Txn { when: compares(129), ..Txn::default() };
    assert!(store.try_txn(many).await.is_err());
    // The branch that is not taken counts as well.
    let otherwise = Txn { when: vec![], then: vec![], otherwise: batches(120, 9) };
    assert!(store.try_txn(otherwise).await.is_err());
}

pub async fn need_keys(store: Store) {
    let put = Op::Put { key: vec![], value: vec![], lease: None };
    let compare = Txn { when: vec![Compare::absent(vec![])], ..Txn::default() };
    for txn in [always(vec![put]), always(vec![Op::Get { key: vec![] }]), compare] {
        let error = store.try_txn(txn).await.unwrap_err();
        assert!(matches!(error, PortError::Refused(_)), "{error:?}");
    }
}

pub async fn of_too_many_bytes_are_refused(store: Store) {
    let big = "x".repeat(500_000);
    let put = |name: &str| store.put_op(name, &big);
    store.run(vec![put("a"), put("b")]).await;
    for count in [4, 20] {
        let ops = (0..count).map(|number| put(&number.to_string())).collect();
        assert_eq!(store.try_txn(always(ops)).await, Err(PortError::TooLarge));
    }
    assert_eq!(store.get("0").await, None);
}

pub async fn with_a_dead_lease_do_nothing(store: Store) {
    let (lease, _) = store.grant(Duration::from_secs(60)).await;
    store.revoke(lease).await.unwrap();
    for dead in [lease, LeaseId(i64::MAX)] {
        let ops = vec![store.put_op("a", "1"), store.leased_op("b", dead)];
        assert_eq!(store.try_txn(always(ops)).await, Err(PortError::NoLease));
    }
    assert!(store.shown(None).await.is_empty());
    // A branch that is not taken may name one.
    let otherwise = vec![store.leased_op("b", lease)];
    store.txn(Txn { when: vec![], then: vec![store.put_op("a", "1")], otherwise }).await;
}
