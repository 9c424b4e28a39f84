//! Larger worlds, for minutes of an optimised build:
//! `cargo test --release --test protocol -- --ignored --nocapture --test-threads 1`.
//! RBYTEA_PROTOCOL_THREADS is the number of threads of each check. The numbers are in docs/PROTOCOL.md.

use crate::model::{PURGED, REFERRED, TRASHED, VOID, holds};
use crate::state::{A, B, C};
use crate::world::{RULES, Rules, Stamp, Start, Valid, World};

const MARK: World = World::MARK;
const PURGE: World = World::PURGE;
const STATEMENTS: World = World::STATEMENTS;

macro_rules! larger {
    ($($name:ident, $possible:expr, $world:expr;)*) => {
        $(
            #[test]
            #[ignore = "takes minutes"]
            fn $name() {
                holds(stringify!($name), $world, &$possible);
            }
        )*
    };
}

larger! {
    mark_of_three_tuples, [TRASHED, VOID], World { tuples: 3, ..MARK };
    mark_with_dead_tuples_left, [TRASHED, VOID], World { prunes_at_once: false, ..MARK };
    mark_with_snapshots_within_snapshots, [TRASHED, VOID], World { nested: true, ..MARK };
    mark_with_truncate, [TRASHED, VOID], World { truncate: true, ..MARK };
    mark_with_a_new_table, [TRASHED, VOID], World { tables: A | B | C, ..MARK };
    mark_with_a_new_payload, [TRASHED, VOID], World { write: true, ..MARK };
    mark_with_a_new_table_and_truncate, [TRASHED, VOID], World { tables: A | B | C, truncate: true, ..MARK };
    mark_with_a_standby, [TRASHED], World { external: true, ..MARK }
        .with(Rules { valid: Valid::LocalStands, ..RULES });
    mark_under_its_own_horizon, [TRASHED], World { external: true, ..MARK }
        .with(Rules { valid: Valid::HorizonIsOwn, ..RULES });
    purge_from_the_beginning, [TRASHED, PURGED, REFERRED], World { start: Start::Stored, ..PURGE };
    purge_with_two_tables, [TRASHED, PURGED, REFERRED], World { tables: A | B, checked: A | B, ..PURGE };
    purge_with_failing_runs, [TRASHED, PURGED, REFERRED], World { failures: true, lineage: false, runs: 3, ..PURGE };
    purge_with_ordinary_rounds, [TRASHED, PURGED, REFERRED], World { ordinary: true, runs: 3, lineage: false, ..PURGE };
    purge_with_early_transaction_id, [TRASHED, PURGED, REFERRED],
        PURGE.with(Rules { stamp: Stamp::Before, ..RULES });
    statements_of_two_runs, [TRASHED, PURGED], STATEMENTS;
    statements_with_lineage, [TRASHED, PURGED], World { lineage: true, start: Start::Trashed, runs: 1, ..STATEMENTS };
    statements_with_a_checked_table, [TRASHED, PURGED], World { checked: A, start: Start::Trashed, runs: 1, ..STATEMENTS };
    statements_with_transaction_blocks, [TRASHED, PURGED], World { blocks: true, start: Start::Trashed, runs: 1, ..STATEMENTS };
    statements_of_three_tuples, [TRASHED, PURGED], World { tuples: 3, tables: B, start: Start::Trashed, runs: 1, ..STATEMENTS };
}
