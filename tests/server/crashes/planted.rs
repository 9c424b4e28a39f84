//! What a campaign looks for, it finds: each kind of loss, planted, and what a client's transactions must have left.

use std::collections::BTreeSet;
use std::fs;

use super::campaign::Campaign;
use super::judge::{self, Among};
use super::transactions::{Changes, Heard, Prepared, Rows, Transactions};
use super::world::Commits;
use crate::support::judge::Verdict;
use crate::support::twin_tables::name;

#[test]
fn a_campaign_finds_what_was_lost_what_dangles_and_what_has_leaked() {
    let mut campaign = Campaign::new(rand::random(), Commits::Mixed);
    let rows = "select uuid(r)::text from shared where seed in (select seed from shared group by 1 having count(*) = 1)
                   and not exists (select from lists where shared.seed = any (seeds)) and octet_length(r) > 0
                   and (select count(*) from pg_prepared_xacts) = 0 order by id limit 3";
    let mut uuids: Vec<String> = Vec::new();
    while uuids.len() < 3 {
        campaign.round();
        uuids = campaign.session().column(rows, &[]);
    }
    assert!(campaign.verdict.is_good(), "{}", campaign.verdict.text());
    let file = |uuid: &String| campaign.cluster.live().into_iter().find(|file| name(file) == *uuid).unwrap();
    let db = campaign.session();

    fs::remove_file(file(&uuids[0])).unwrap();
    let len = fs::metadata(file(&uuids[1])).unwrap().len();
    fs::write(file(&uuids[1]), vec![b'x'; len as usize]).unwrap();
    db.execute("delete from shared where uuid(r) = $1::text::uuid", &[&uuids[2]]);
    let mut verdict = Verdict::default();
    let (world, of_clients) = (&campaign.world, &mut campaign.of_clients);
    judge::after_a_crash(&db, world, of_clients, &mut verdict);
    // The vacuum may have met one of them too, and other rows may have copies of the references.
    assert!(verdict.found().dangling >= 2 && verdict.found().lost >= 3, "{}", verdict.text());

    let stray = campaign.cluster.store().join("stray");
    fs::write(&stray, "").unwrap();
    fs::rename(&stray, file(&uuids[1]).with_file_name("stray")).unwrap();
    let mut verdict = Verdict::default();
    let databases = campaign.end_everything();
    judge::everything_else_goes(&campaign.cluster.store(), &databases, &mut verdict, Among::AllNow, || ());
    assert!(verdict.found().leaked >= 1 && verdict.found().dangling >= 1, "{}", verdict.text());
}

fn put(id: i64, seed: i64) -> Changes {
    vec![(("t".to_owned(), id), Some(vec![seed]))]
}

fn rows(rows: &[(i64, i64)]) -> Rows {
    rows.iter().map(|(id, seed)| (("t".to_owned(), *id), vec![*seed])).collect()
}

fn losses(heard: &[Heard], found: &[(i64, i64)]) -> usize {
    let mut transactions = Transactions::default();
    for (id, heard) in (1..).zip(heard) {
        transactions.committed([put(id, 10 * id), put(100 + id, 0)].concat(), *heard);
    }
    let found = found.iter().flat_map(|(id, seed)| [(*id, *seed), (100 + *id, 0)]).collect::<Vec<_>>();
    transactions.recover(&BTreeSet::new(), rows(&found)).len()
}

#[test]
fn a_ledger_misses_what_was_durable_and_nothing_else() {
    use Heard::{Acknowledged, Durable, Nothing};
    assert_eq!(losses(&[Durable, Durable], &[(1, 10), (2, 20)]), 0);
    assert_eq!(losses(&[Durable, Durable], &[(1, 10)]), 2);
    assert_eq!(losses(&[Durable, Durable], &[(1, 10), (2, 21)]), 1);
    assert_eq!(losses(&[Durable, Nothing], &[(1, 10)]), 0);
    assert_eq!(losses(&[Durable, Nothing], &[(1, 10), (2, 20)]), 0);
    assert_eq!(losses(&[Durable, Nothing], &[(1, 10), (2, 20), (3, 30)]), 2);
    assert_eq!(losses(&[Durable, Acknowledged, Acknowledged], &[(1, 10)]), 0);
    assert_eq!(
        losses(&[Acknowledged, Acknowledged], &[(2, 20)]),
        2,
        "a later transaction was kept and an earlier one lost"
    );
    assert_eq!(
        losses(&[Acknowledged, Durable], &[]),
        4,
        "what was acknowledged before a durable transaction is durable as well"
    );
}

#[test]
fn a_ledger_misses_half_a_transaction_and_a_prepared_one() {
    let mut transactions = Transactions::default();
    transactions.committed([put(1, 1), put(2, 2)].concat(), Heard::Nothing);
    assert_eq!(transactions.recover(&BTreeSet::new(), rows(&[(1, 1)])).len(), 1);
    let prepared = |acknowledged, ending| Prepared { changes: put(3, 3), acknowledged, ending };
    for (acknowledged, ending, with_row, without) in
        [(true, None, 2, 1), (false, None, 1, 0), (true, Some(true), 0, 1), (true, Some(false), 1, 0)]
    {
        for (found, expected) in [(rows(&[(1, 1), (3, 3)]), with_row), (rows(&[(1, 1)]), without)] {
            let mut transactions = Transactions::default();
            transactions.committed(put(1, 1), Heard::Durable);
            transactions.prepared.insert("x".to_owned(), prepared(acknowledged, ending));
            assert_eq!(
                transactions.recover(&BTreeSet::new(), found).len(),
                expected,
                "{acknowledged} {ending:?}"
            );
        }
    }
}
