//! The store: each item once, memory bounded, damage and misuse refused.

use std::fs;

use copriv_ot::store::{Store, StoreError};
use copriv_ot::{Channel, OtExtension, Role, RotReceiver, RotSender, Secret, cot};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

const GENERATION: [u8; 32] = [7; 32];

fn item(i: u64, len: usize) -> Secret<u8> {
    Secret::new((0..len).map(|j| (i as usize * 31 + j) as u8).collect())
}

fn open(folder: &std::path::Path, limit: usize) -> Store {
    Store::open(folder, &GENERATION, limit).unwrap()
}

#[test]
fn items_come_back_once_and_in_rising_order() {
    let folder = tempfile::tempdir().unwrap();
    for limit in [0, 250, 10_000] {
        let mut stores = [Store::in_memory(10_000), open(&folder.path().join(limit.to_string()), limit)];
        for store in &mut stores {
            for i in 0..10 {
                store.put(i, item(i, 100)).unwrap();
            }
            assert!(store.available().eq(0..10));
            assert_eq!(**store.take(0).unwrap(), **item(0, 100));
            assert_eq!(**store.take(3).unwrap(), **item(3, 100));
            for i in [0, 1, 2, 3] {
                let error = store.take(i).unwrap_err();
                assert!(matches!(error, StoreError::Used { next: 4, .. }));
                assert!(matches!(store.put(i, item(i, 1)), Err(StoreError::Used { .. })));
            }
            assert!(store.available().eq(4..10));
            assert!(matches!(store.put(5, item(5, 1)), Err(StoreError::Duplicate { item: 5 })));
            assert!(matches!(store.take(10), Err(StoreError::Missing { item: 10 })));
            // A number asked for in vain is not used up.
            assert_eq!(store.next(), 4);
            assert_eq!(**store.take(9).unwrap(), **item(9, 100));
            assert_eq!((store.available().count(), store.memory()), (0, 0));
        }
    }
}

#[test]
fn memory_is_bounded_and_the_rest_spills() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), 250);
    for i in 0..10 {
        store.put(i, item(i, 100)).unwrap();
        assert!(store.memory() <= 250);
    }
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1 + 8);
    for i in 0..10 {
        assert_eq!(**store.take(i).unwrap(), **item(i, 100));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let mut small = Store::in_memory(250);
    small.put(0, item(0, 250)).unwrap();
    assert!(matches!(small.put(1, item(1, 1)), Err(StoreError::Full { limit: 250 })));
}

#[test]
fn what_was_spilled_survives_and_what_was_used_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), 0);
    for i in 0..6 {
        store.put(i, item(i, 50)).unwrap();
    }
    store.take(1).unwrap();
    assert!(matches!(Store::open(folder.path(), &GENERATION, 0), Err(StoreError::Locked)));
    drop(store);
    assert!(matches!(Store::open(folder.path(), &[8; 32], 0), Err(StoreError::Generation)));
    let mut store = open(folder.path(), 0);
    assert_eq!(store.next(), 2);
    assert!(store.available().eq(2..6));
    assert!(store.take(1).is_err());
    assert_eq!(**store.take(2).unwrap(), **item(2, 50));
}

#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), 0);
    for i in 0..3 {
        store.put(i, item(i, 50)).unwrap();
    }
    // Another item's file, a cut one, a changed one.
    fs::copy(folder.path().join("item-1"), folder.path().join("item-0")).unwrap();
    let mut bytes = fs::read(folder.path().join("item-2")).unwrap();
    fs::write(folder.path().join("item-1"), &bytes[..20]).unwrap();
    bytes[10] ^= 1;
    fs::write(folder.path().join("item-2"), &bytes).unwrap();
    for i in 0..3 {
        let error = store.take(i).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { item } if item == i));
    }
}

#[test]
fn a_torn_log_loses_only_the_torn_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), 0);
    for i in 0..4 {
        store.put(i, item(i, 50)).unwrap();
    }
    store.take(0).unwrap();
    store.take(1).unwrap();
    drop(store);
    let path = folder.path().join("used");
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let store = open(folder.path(), 0);
        let next = store.next();
        assert!(next <= 2, "{cut}");
        // Used items are gone even where their mark is.
        assert!(store.available().eq(2..4));
        drop(store);
        // The log can be appended to after a cut.
        assert!(fs::read(&path).unwrap().len() <= whole.len());
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(folder.path(), 0).next(), 2);
}

#[test]
fn random_ots_made_before_a_restart_serve_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |role: Role| folder.path().join(format!("{role:?}"));
    let (server, client) = Channel::pair();
    let offline = |mut chan: Channel, role: Role| {
        let mut rng = ChaCha20Rng::seed_from_u64(role as u64);
        let mut ot = OtExtension::setup(&mut chan, role, &mut rng).unwrap();
        let mut store = open(&path(role), 0);
        for i in 0..3 {
            let bytes = match role {
                Role::Server => ot.extend_random(&mut chan, 50, 0).unwrap().0.into_bytes(),
                Role::Client => ot.extend_random(&mut chan, 0, 50).unwrap().1.into_bytes(),
            };
            store.put(i, bytes).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| offline(client, Role::Client));
        offline(server, Role::Server);
    });

    // Both parties are new processes now, and the client has lost item 0.
    let (mut server, mut client) = (open(&path(Role::Server), 0), open(&path(Role::Client), 0));
    drop(client.take(0).unwrap());
    let item = server.next().max(client.next());
    let sender = RotSender::from_bytes(&server.take(item).unwrap()).unwrap();
    let receiver = RotReceiver::from_bytes(&client.take(item).unwrap()).unwrap();
    let choices: Vec<bool> = (0..50).map(|i| i % 3 == 0).collect();
    let delta: Vec<u64> = (0..50).map(|i| i * i).collect();
    let flips = receiver.flips(&choices);
    let (message, mine) = cot::sender(sender, &flips, 32, &delta).unwrap();
    let theirs = cot::receiver(receiver, &choices, 32, &message).unwrap();
    for i in 0..50 {
        let expected = if choices[i] { delta[i] } else { 0 };
        assert_eq!((mine[i] + theirs[i]) % (1 << 32), expected);
    }
    assert!(server.take(0).is_err() && client.take(1).is_err());
}
