//! What a campaign looks for, it finds: each kind of loss, planted.

use std::fs;

use super::campaign::Campaign;
use super::judge::{self, Among, Verdict};
use super::world::Commits;
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
    assert!(campaign.verdict.is_good(), "{:?}", campaign.verdict.what);
    let file = |uuid: &String| campaign.cluster.live().into_iter().find(|file| name(file) == *uuid).unwrap();
    let db = campaign.session();

    fs::remove_file(file(&uuids[0])).unwrap();
    let len = fs::metadata(file(&uuids[1])).unwrap().len();
    fs::write(file(&uuids[1]), vec![b'x'; len as usize]).unwrap();
    db.execute("delete from shared where uuid(r) = $1::text::uuid", &[&uuids[2]]);
    let mut verdict = Verdict::default();
    let (world, ledgers) = (&campaign.world, &mut campaign.ledgers);
    judge::after_a_crash(&db, world, ledgers, &mut verdict);
    // The vacuum may have met one of them too, and other rows may have copies of the references.
    assert!(verdict.dangling >= 2 && verdict.lost >= 3, "{:?}", verdict.what);

    let stray = campaign.cluster.store().join("stray");
    fs::write(&stray, "").unwrap();
    fs::rename(&stray, file(&uuids[1]).with_file_name("stray")).unwrap();
    let mut verdict = Verdict::default();
    let databases = campaign.end_everything();
    judge::everything_else_goes(&campaign.cluster, &databases, &mut verdict, Among::AllNow, || ());
    assert!(verdict.leaked >= 1 && verdict.dangling >= 1, "{:?}", verdict.what);
}
