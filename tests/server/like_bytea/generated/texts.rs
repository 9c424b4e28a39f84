//! The input functions on any text: rbytea_in against byteain, and what comes out again.

use tokio_postgres::types::Type;

use super::Generator;
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::session::{Session, block_on};

/// `judge(texts)`: how many are good, and the first one of which the two types say something else. SQL_ASCII takes every
/// byte for a character. (pgrx takes messages for UTF-8, so bytes of the text that they repeat are compared by their place.)
const JUDGE: &str = "
    create function ascii_only(message text) returns text language sql immutable
    return regexp_replace(encode(convert_to(message, 'SQL_ASCII'), 'escape'), '(\\\\[0-7]{3})+', '?', 'g');
    create function judge(texts bytea[], out good int, out wrong bytea, out said bytea, out says bytea)
    language plpgsql as $$
    declare
        one bytea; content text; r rbytea; b bytea; ours text; theirs text; same bool;
    begin
        good := 0;
        foreach one in array texts loop
            content := convert_from(one, 'SQL_ASCII');
            r := null; b := null; ours := null; theirs := null;
            begin
                r := rbytea_in(textout(content));
            exception when others then
                ours := sqlstate || ' ' || sqlerrm;
            end;
            begin
                b := byteain(textout(content));
            exception when others then
                theirs := sqlstate || ' ' || sqlerrm;
            end;
            if b is null then
                same := r is null and ascii_only(ours) = ascii_only(theirs);
            else
                good := good + 1;
                same := ours is null and coalesce(r::bytea = b and rbytea_send(r) = byteasend(b)
                    and textin(rbytea_out(r)) = textin(byteaout(b)) and r = b::rbytea, false);
            end if;
            if not same then
                wrong := one;
                said := convert_to(coalesce(ours, r::text), 'SQL_ASCII');
                says := convert_to(coalesce(theirs, b::text), 'SQL_ASCII');
                return;
            end if;
        end loop;
    end $$";

const BATCH: u64 = 5_000;

fn database(cluster: &Cluster) -> Session {
    cluster.session().run("create database every_byte encoding 'SQL_ASCII' locale 'C' template template0");
    let db = cluster.session_in("every_byte");
    db.run("create extension rbytea");
    db.run(JUDGE);
    db
}

/// In both output formats, by turns.
#[test]
fn any_text_means_what_it_means_to_bytea_or_is_refused_in_the_same_words() {
    let cluster = Cluster::running();
    let db = database(&cluster);
    let judge = block_on(db.client().prepare_typed("select * from judge($1)", &[Type::BYTEA_ARRAY])).unwrap();
    let mut generator = Generator::new();
    let (mut good, mut judged) = (0, 0);
    while judged < generator.inputs {
        let output = if (judged / BATCH).is_multiple_of(2) { "hex" } else { "escape" };
        db.run(&format!("set bytea_output = {output}"));
        let texts: Vec<_> = (0..BATCH).map(|_| Payload(generator.text())).collect();
        let row = block_on(db.client().query_one(&judge, &[&texts])).unwrap();
        if let Some(text) = row.get::<_, Option<Payload>>("wrong") {
            let [ours, theirs] = ["said", "says"].map(|side| {
                row.get::<_, Option<Payload>>(side).map(|said| said.0.escape_ascii().to_string())
            });
            panic!(
                "{} is {ours:?} to rbytea and {theirs:?} to bytea ({})",
                text.0.escape_ascii(),
                generator.repeat()
            );
        }
        good += row.get::<_, i32>("good") as u64;
        judged += BATCH;
    }
    assert!(good > judged / 4 && good < judged * 3 / 4, "{good} good texts of {judged} test one side only");
    assert!(cluster.live().is_empty(), "an input function has made a file");
    proves_by_assertions(Promise::BadInput, judged);
}
