//! Lists: pages, earlier revisions.

use std::collections::BTreeMap;

use tocktower_cluster::port::{KeyRange, ListRequest, PortError};
use tocktower_core::ids::Revision;

use crate::vocabulary::Store;

fn names(store: &Store, items: &[tocktower_cluster::port::KeyValue]) -> Vec<String> {
    items.iter().map(|item| store.name(&item.key)).collect()
}

pub async fn come_in_pages(store: Store) {
    for name in ["c", "a", "e", "b", "d"] {
        store.put(name, name).await;
    }
    let revision = store.revision().await;
    let (shown, items, more) = store.list(store.page(2, None)).await;
    assert_eq!((shown, more), (revision, true));
    assert_eq!(names(&store, &items), ["a", "b"]);
    assert_eq!(items[1].value, b"b");

    let after = |name: &str, limit| {
        let range = KeyRange { start: store.key(name), end: store.all().end };
        ListRequest { range, limit, at: None, keys_only: false }
    };
    let (_, items, more) = store.list(after("b\0", 3)).await;
    assert_eq!((names(&store, &items), more), (vec!["c".into(), "d".into(), "e".into()], false));
    let (_, items, more) = store.list(after("e\0", 3)).await;
    assert!(items.is_empty() && !more);

    let one = ListRequest { range: KeyRange::one(&store.key("c")), ..after("", 9) };
    assert_eq!(names(&store, &store.list(one).await.1), ["c"]);
    let backwards = KeyRange { start: store.key("d"), end: store.key("b") };
    let nothing = ListRequest { range: backwards, ..after("", 9) };
    assert!(store.list(nothing).await.1.is_empty());
}

pub async fn leave_values_out(store: Store) {
    let created = store.put("a", "1").await;
    let modified = store.put("a", "2").await;
    let request = ListRequest { keys_only: true, ..store.page(10, None) };
    let (_, items, _) = store.list(request).await;
    assert_eq!(items[0].value, b"");
    assert_eq!((items[0].create_revision, items[0].mod_revision), (created, modified));
}

pub async fn show_an_earlier_revision(store: Store) {
    let mut past: Vec<(Revision, BTreeMap<String, String>)> = Vec::new();
    let mut now = BTreeMap::new();
    for (name, value) in
        [("b", "1"), ("d", "1"), ("b", "2"), ("a", "1"), ("d", ""), ("b", ""), ("d", "2")]
    {
        let revision = if value.is_empty() {
            now.remove(name);
            store.delete(name).await
        } else {
            now.insert(name.to_string(), value.to_string());
            store.put(name, value).await
        };
        past.push((revision, now.clone()));
    }
    for (revision, shown) in past {
        assert_eq!(store.shown(Some(revision)).await, shown, "at {revision:?}");
        assert_eq!(store.list(store.page(1, Some(revision))).await.0, revision);
    }
}

pub async fn page_through_an_earlier_revision(store: Store) {
    for name in ["a", "b", "c", "d", "e", "f"] {
        store.put(name, "old").await;
    }
    let at = store.revision().await;
    for name in ["a", "c", "f"] {
        store.delete(name).await;
    }
    store.put("aa", "new").await;
    store.put("e", "new").await;
    let mut start = store.key("");
    let mut seen = Vec::new();
    loop {
        let range = KeyRange { start: start.clone(), end: store.all().end };
        let request = ListRequest { range, limit: 2, at: Some(at), keys_only: false };
        let (_, items, more) = store.list(request).await;
        assert!(items.iter().all(|item| item.value == b"old"));
        seen.extend(names(&store, &items));
        let Some(last) = items.last().filter(|_| more) else {
            break;
        };
        start = KeyRange::one(&last.key).end;
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e", "f"]);
}

pub async fn are_refused_if_they_make_no_sense(store: Store) {
    let future = Revision(store.put("a", "1").await.0 + 1_000);
    let keyless = KeyRange { start: vec![], end: b"z".to_vec() };
    let requests = [
        store.page(10, Some(future)),
        store.page(10, Some(Revision(0))),
        store.page(0, None),
        ListRequest { range: keyless, ..store.page(1, None) },
    ];
    for request in requests {
        let error = store.try_list(request).await.unwrap_err();
        assert!(matches!(error, PortError::Refused(_)), "{error:?}");
    }
}
