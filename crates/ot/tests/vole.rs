//! Packed VOLE over real channels: its equation, its traffic, its files, and what a bad peer gets.

use std::path::Path;
use std::{fs, thread};

use copriv_ot::vole::{
    Depths, FileError, HolderTrees, Lane, PuncturedTrees, Radices, Session, Sums, setup_holder,
    setup_puncturer, setup_traffic,
};
use copriv_ot::{Channel, ChannelError, OtError, OtExtension, OtFlavour, Role};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rayon::iter::ParallelIterator;

/// Every alphabet that the engine asks for, and odd ones.
fn alphabets() -> Vec<Radices> {
    let mut all: Vec<Radices> = (1..=10).map(|k| Radices::binary(k).unwrap()).collect();
    all.extend((1..=6).map(|m| Radices::ternary(m).unwrap()));
    let mixed: [&[u16]; 9] =
        [&[4; 4], &[16, 16], &[256], &[1024], &[5], &[2, 3], &[3, 3, 2, 5], &[7, 2, 31], &[2, 2, 2, 3, 4]];
    all.extend(mixed.map(|radices| Radices::new(radices).unwrap()));
    all
}

struct Pair {
    holder: HolderTrees,
    puncturer: PuncturedTrees,
    /// The digits of each group.
    digits: Vec<Vec<u16>>,
}

/// Random digits for each of these groups, and their trees.
fn set_up(groups: &[Radices], flavour: OtFlavour, seed: u64) -> Pair {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut depths = Depths::new();
    let (mut digits, mut leaves) = (Vec::new(), Vec::new());
    for radices in groups {
        depths.push(1, radices.depth()).unwrap();
        let group: Vec<u16> = radices.radices().iter().map(|&r| rng.random_range(0..r)).collect();
        leaves.push(radices.leaf(&group).unwrap());
        digits.push(group);
    }
    let (mut server, mut client) = Channel::pair();
    let expected = setup_traffic(flavour, &depths);
    let (holder, puncturer) = thread::scope(|scope| {
        let (shape, mut client_rng) = (depths.clone(), ChaCha20Rng::seed_from_u64(seed + 1));
        let holder = scope.spawn(move || {
            let trees = setup_holder(&mut client, flavour, shape, &mut client_rng).unwrap();
            assert_eq!(client.traffic(), expected);
            trees
        });
        let trees = setup_puncturer(&mut server, flavour, depths, &leaves, &mut rng).unwrap();
        assert_eq!(server.traffic(), expected.mirrored());
        (holder.join().unwrap(), trees)
    });
    assert_eq!(holder.id(), puncturer.id());
    Pair { holder, puncturer, digits }
}

impl Pair {
    fn sessions(&self, rng: &mut ChaCha20Rng) -> (Session, Session) {
        let (session, nonce) = self.holder.session(rng);
        (session, self.puncturer.join(&nonce))
    }

    /// One use of all groups: the equation for each digit. Gives the holder's messages.
    fn check<L: Lane>(
        &self,
        groups: &[Radices],
        columns: usize,
        sessions: &mut (Session, Session),
        rng: &mut ChaCha20Rng,
    ) -> Vec<Vec<L>> {
        let (mine, theirs) = (sessions.0.take(0..groups.len()), sessions.1.take(0..groups.len()));
        let (mut a, mut b) = (Sums::<L>::new(), Sums::<L>::new());
        let mut messages = Vec::new();
        for ((mine, theirs), radices) in mine.tickets().zip(theirs.tickets()).zip(groups) {
            let digits = &self.digits[mine.group()];
            self.holder.sums(mine, radices, columns, &mut a).unwrap();
            self.puncturer.sums(theirs, radices, columns, &mut b).unwrap();
            assert_eq!((a.columns(), a.digits()), (columns, digits.len()));
            let mut r = vec![L::default(); columns];
            rng.fill_bytes(bytemuck::cast_slice_mut(&mut r));
            let message: Vec<L> = r.iter().zip(a.u()).map(|(r, u)| r.minus(*u)).collect();
            let mut q = r.clone();
            for (i, &digit) in digits.iter().enumerate() {
                b.punctured_share(i, digit, &message, &mut q).unwrap();
                for j in 0..columns {
                    // The holder's share is `-z_i`.
                    assert_eq!(q[j].plus(a.z(i)[j]), r[j].times(digit), "{radices:?}, digit {i}, column {j}");
                }
            }
            messages.push(message);
        }
        messages
    }
}

#[test]
fn the_shares_multiply_for_every_alphabet_lane_and_width() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let groups = alphabets();
    let pair = set_up(&groups, OtFlavour::SoftSpoken4, 2);
    let mut sessions = pair.sessions(&mut rng);
    for columns in [0, 1, 7, 16, 31, 49] {
        pair.check::<u16>(&groups, columns, &mut sessions, &mut rng);
        pair.check::<u32>(&groups, columns, &mut sessions, &mut rng);
        pair.check::<u64>(&groups, columns, &mut sessions, &mut rng);
    }
}

#[test]
fn random_groups_of_random_shapes_multiply() {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    for case in 0..24 {
        let groups: Vec<Radices> = (0..rng.random_range(1..6))
            .map(|_| {
                loop {
                    let digits = rng.random_range(1..=5);
                    let radices: Vec<u16> = (0..digits).map(|_| rng.random_range(2..12)).collect();
                    if let Ok(radices) = Radices::new(&radices) {
                        break radices;
                    }
                }
            })
            .collect();
        let pair = set_up(&groups, OtFlavour::SoftSpoken2, case);
        let mut sessions = pair.sessions(&mut rng);
        let columns = rng.random_range(1..300);
        match case % 3 {
            0 => drop(pair.check::<u16>(&groups, columns, &mut sessions, &mut rng)),
            1 => drop(pair.check::<u32>(&groups, columns, &mut sessions, &mut rng)),
            _ => drop(pair.check::<u64>(&groups, columns, &mut sessions, &mut rng)),
        }
    }
}

#[test]
fn set_up_is_as_predicted_with_every_flavour_and_across_chunks() {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let few: Vec<Radices> = [1, 2, 8, 8, 3].map(|k| Radices::binary(k).unwrap()).into();
    for flavour in OtFlavour::ALL {
        let pair = set_up(&few, flavour, 5);
        let mut sessions = pair.sessions(&mut rng);
        pair.check::<u32>(&few, 5, &mut sessions, &mut rng);
    }
    set_up(&[], OtFlavour::Iknp, 6);
    // More than one chunk of 2^16, of unequal depths.
    let mut many = vec![Radices::binary(2).unwrap(); 40_000];
    many.extend(vec![Radices::ternary(1).unwrap(); 20_000]);
    many.extend(vec![Radices::binary(1).unwrap(); 90_000]);
    let pair = set_up(&many, OtFlavour::SoftSpoken4, 7);
    let mut sessions = pair.sessions(&mut rng);
    pair.check::<u16>(&many, 1, &mut sessions, &mut rng);
}

/// What one group of depth 8 costs beyond its correlated OTs.
#[test]
fn a_group_of_depth_eight_takes_112_bytes() {
    let traffic = |groups| {
        let mut depths = Depths::new();
        depths.push(groups, 8).unwrap();
        setup_traffic(OtFlavour::SoftSpoken8, &depths)
    };
    let more = traffic(2000) - traffic(1000);
    assert_eq!((more.sent, more.received), (112_000, 16_000));
}

#[test]
fn no_use_repeats_and_sessions_differ() {
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    let groups = [Radices::binary(4).unwrap(); 3];
    let pair = set_up(&groups, OtFlavour::Iknp, 9);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..3 {
        let mut session = pair.holder.session(&mut rng).0;
        for _ in 0..4 {
            for ticket in session.take(0..3).tickets() {
                let mut sums = Sums::<u64>::new();
                pair.holder.sums(ticket, &groups[0], 2, &mut sums).unwrap();
                assert!(seen.insert(sums.u().to_vec()));
                assert!(seen.insert(sums.z(2).to_vec()));
            }
        }
    }
}

#[test]
fn pieces_and_threads_do_not_change_the_sums() {
    let mut rng = ChaCha20Rng::seed_from_u64(10);
    let shape = Radices::ternary(3).unwrap();
    let pair = set_up(&[shape; 20], OtFlavour::Iknp, 11);
    let (mut mine, mut theirs) = pair.sessions(&mut rng);
    let sums = |ticket| {
        let mut sums = Sums::<u32>::new();
        pair.holder.sums(ticket, &shape, 10, &mut sums).unwrap();
        sums.z(1).to_vec()
    };
    let whole: Vec<Vec<u32>> = mine.take(0..20).tickets().map(sums).collect();
    let (first, rest) = theirs.take(0..20).split_at(7);
    let mut pieces: Vec<Vec<u32>> = first.par_tickets().map(sums).collect();
    pieces.extend(rest.tickets().map(sums));
    assert_eq!(whole, pieces);
}

#[test]
fn wrong_arguments_are_errors() {
    let mut rng = ChaCha20Rng::seed_from_u64(12);
    let shape = Radices::binary(3).unwrap();
    let pair = set_up(&[shape; 2], OtFlavour::Iknp, 13);
    let mut session = pair.holder.session(&mut rng).0;
    let mut sums = Sums::<u16>::new();
    let tickets: Vec<_> = session.take(1..3).tickets().collect();
    let mut results = tickets.into_iter().map(|ticket| pair.holder.sums(ticket, &shape, 4, &mut sums));
    assert!(results.next().unwrap().is_ok());
    assert!(matches!(results.next().unwrap(), Err(OtError::OutOfRange { what: "group", got: 2, .. })));
    let ticket = session.take(0..1).tickets().next().unwrap();
    let deeper = Radices::binary(4).unwrap();
    assert!(matches!(pair.holder.sums(ticket, &deeper, 4, &mut sums), Err(OtError::Mismatch { .. })));
    let (mut few, r) = ([0; 3], [0; 4]);
    assert!(sums.punctured_share(0, 1, &r, &mut few).is_err());

    let mut depths = Depths::new();
    depths.push(2, 3).unwrap();
    let (mut chan, _peer) = Channel::pair();
    for leaves in [&[1, 8][..], &[1], &[1, 2, 3]] {
        let result = setup_puncturer(&mut chan, OtFlavour::Iknp, depths.clone(), leaves, &mut rng);
        assert!(matches!(result, Err(OtError::OutOfRange { .. } | OtError::Mismatch { .. })), "{leaves:?}");
    }
}

#[test]
fn a_peer_of_other_depths_or_who_leaves_gives_errors() {
    let shape = |groups| {
        let mut depths = Depths::new();
        depths.push(groups, 8).unwrap();
        depths
    };
    let (mut server, mut client) = Channel::pair();
    let (a, b) = thread::scope(|scope| {
        let a = scope.spawn(|| {
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            setup_puncturer(&mut server, OtFlavour::Iknp, shape(10), &[0; 10], &mut rng).map(drop)
        });
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let b = setup_holder(&mut client, OtFlavour::Iknp, shape(11), &mut rng).map(drop);
        (a.join().unwrap(), b)
    });
    for result in [a, b] {
        assert!(matches!(result, Err(OtError::Incompatible { .. })), "{result:?}");
    }
    // The holder sets up its OTs, agrees on the depths, sends too little, and goes.
    for bytes in [0, 1, 10 * 112 - 1] {
        let (mut server, mut client) = Channel::pair();
        let result = thread::scope(|scope| {
            let honest = scope.spawn(move || {
                let mut rng = ChaCha20Rng::seed_from_u64(1);
                setup_puncturer(&mut server, OtFlavour::Iknp, shape(10), &[5; 10], &mut rng).map(drop)
            });
            let mut rng = ChaCha20Rng::seed_from_u64(2);
            let mut ot =
                OtExtension::setup_with(&mut client, Role::Client, OtFlavour::Iknp, &mut rng).unwrap();
            let theirs = client.recv(32).unwrap();
            client.send(&theirs).unwrap();
            ot.extend(&mut client, 80, &[]).unwrap();
            client.send(&vec![7; bytes]).unwrap();
            drop(client);
            honest.join().unwrap()
        });
        assert!(matches!(result, Err(OtError::Channel(ChannelError::PeerClosed))), "{result:?}");
    }
}

/// Either party's trees as files, and how to load them.
fn saved(folder: &Path, pair: &Pair, fingerprint: &[u8; 32]) -> [std::path::PathBuf; 2] {
    let paths = ["holder", "puncturer"].map(|name| folder.join(name));
    pair.holder.save(&paths[0], fingerprint).unwrap();
    pair.puncturer.save(&paths[1], fingerprint).unwrap();
    paths
}

#[test]
fn files_bring_the_trees_back() {
    let mut rng = ChaCha20Rng::seed_from_u64(14);
    let folder = tempfile::tempdir().unwrap();
    let groups = alphabets();
    let pair = set_up(&groups, OtFlavour::SoftSpoken2, 15);
    let [a, b] = saved(folder.path(), &pair, &[7; 32]);
    // Over an older file too.
    saved(folder.path(), &pair, &[7; 32]);
    let names = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 2, "no temporary file stays");
    let again = Pair {
        holder: HolderTrees::load(&a, &[7; 32]).unwrap(),
        puncturer: PuncturedTrees::load(&b, &[7; 32]).unwrap(),
        digits: pair.digits.clone(),
    };
    // Old and new of either side work together.
    let mut sessions = again.sessions(&mut rng);
    again.check::<u32>(&groups, 9, &mut sessions, &mut rng);
    let mixed = Pair { puncturer: pair.puncturer, ..again };
    let mut sessions = mixed.sessions(&mut rng);
    mixed.check::<u32>(&groups, 9, &mut sessions, &mut rng);
}

#[test]
fn foreign_and_damaged_files_do_not_load() {
    let folder = tempfile::tempdir().unwrap();
    let groups = [Radices::binary(2).unwrap(), Radices::ternary(2).unwrap()];
    let pair = set_up(&groups, OtFlavour::Iknp, 16);
    let [a, b] = saved(folder.path(), &pair, &[7; 32]);
    let holder = |path: &Path| HolderTrees::load(path, &[7; 32]).map(drop);
    let puncturer = |path: &Path| PuncturedTrees::load(path, &[7; 32]).map(drop);
    assert!(holder(&a).is_ok() && puncturer(&b).is_ok());

    // Rule 1: weights that changed never meet old trees.
    let changed = PuncturedTrees::load(&b, &[8; 32]).map(drop).unwrap_err();
    assert!(matches!(changed, FileError::Fingerprint), "{changed}");
    assert!(changed.to_string().contains("set up anew"));
    assert!(matches!(HolderTrees::load(&a, &[8; 32]), Err(FileError::Fingerprint)));
    assert!(matches!(holder(&b), Err(FileError::Foreign { what: "party" })));
    assert!(matches!(puncturer(&a), Err(FileError::Foreign { what: "party" })));
    assert!(matches!(holder(&folder.path().join("none")), Err(FileError::Io(_))));

    let bad = folder.path().join("bad");
    for (good, load) in [(&a, &holder as &dyn Fn(&Path) -> _), (&b, &puncturer)] {
        let bytes = fs::read(good).unwrap();
        for len in 0..bytes.len() {
            fs::write(&bad, &bytes[..len]).unwrap();
            assert!(load(&bad).is_err(), "cut to {len}");
        }
        fs::write(&bad, [&bytes[..], &[0]].concat()).unwrap();
        assert!(load(&bad).is_err());
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&bad, &bytes).unwrap();
            assert!(load(&bad).is_err(), "byte {at}");
        }
        // Counts that would ask for far too much memory.
        for at in [74, 82, 90] {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].fill(0xff);
            fs::write(&bad, &bytes).unwrap();
            assert!(matches!(load(&bad), Err(FileError::Damaged)), "count at {at}");
        }
    }
}
