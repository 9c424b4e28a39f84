//! The pending state machine against the simplest model of it.

use crate::support::{Bed, read, write};
use proptest::prelude::*;
use rbytea_memfs::{EIO, MemFs, Op};
use rbytea_store::file::MAX_OPEN;
use rbytea_store::{PayloadRef, Pending, PendingState, Writer};

#[derive(Clone, Debug)]
enum Step {
    Write(u8),
    Abandon,
    Sync,
    FailingSync,
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..12u8).prop_map(Step::Write),
        1 => Just(Step::Abandon),
        2 => Just(Step::Sync),
        1 => Just(Step::FailingSync),
        2 => Just(Step::Forget),
    ]
}

/// What a transaction is: files that await a sync, or a failure.
struct Model {
    state: PendingState,
    files: u64,
    unsynced: Vec<PayloadRef>,
}

impl Model {
    fn become_(&mut self, state: PendingState) {
        self.state = state;
        self.files = 0;
        self.unsynced.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pending_behaves_like_its_model(steps in prop::collection::vec(step(), 1..40), syncfs: bool) {
        let fs = if syncfs { MemFs::new() } else { MemFs::new().without_syncfs() };
        let store = fs.store();
        drop(Writer::begin(&store, 1, None).unwrap());
        let mut pending = Pending::new();
        let mut model = Model { state: PendingState::Empty, files: 0, unsynced: Vec::new() };
        let mut durable: Vec<PayloadRef> = Vec::new();
        for step in steps {
            let syncs = fs.syncs();
            match step {
                Step::Write(files) => for _ in 0..files {
                    let written = write(&store, 1, b"payload", &mut pending);
                    prop_assert_eq!(written.is_err(), model.state == PendingState::Failed);
                    if let Ok(payload) = written {
                        model.state = PendingState::Collecting;
                        model.files += 1;
                        model.unsynced.push(payload);
                    }
                },
                Step::Abandon => drop(Writer::begin(&store, 1, None).unwrap()),
                Step::Sync => {
                    let synced = pending.sync(&store, &mut || ());
                    prop_assert_eq!(synced.is_err(), model.state == PendingState::Failed);
                    if model.state == PendingState::Collecting {
                        durable.append(&mut model.unsynced);
                        model.become_(PendingState::Synced);
                    } else {
                        prop_assert_eq!(fs.syncs(), syncs, "nothing was to be synced");
                    }
                }
                Step::FailingSync => if model.state == PendingState::Collecting {
                    fs.fail(if pending.descriptors() > 0 { Op::SyncData } else { Op::Syncfs }, 1, EIO);
                    prop_assert!(pending.sync(&store, &mut || ()).is_err());
                    model.become_(PendingState::Failed);
                },
                Step::Forget => {
                    pending.forget();
                    prop_assert_eq!(fs.syncs(), syncs, "forgetting makes no system call");
                    model.become_(PendingState::Empty);
                }
            }
            prop_assert_eq!(pending.state(), model.state);
            prop_assert_eq!(pending.uploads(), model.files);
            prop_assert!(pending.descriptors() <= MAX_OPEN);
        }
        let after = fs.after_crash().store();
        for payload in durable {
            prop_assert_eq!(read(&after, &payload).unwrap(), b"payload");
        }
    }
}
