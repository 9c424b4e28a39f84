//! Text and binary, in and out.

use tokio_postgres::error::DbError;
use tokio_postgres::types::ToSql;

use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::twins::{outcome, payloads, quoted, twins};

/// Text that bytea takes, or refuses, in the hex and in the escape format.
const TEXTS: &[&str] = &[
    "",
    "abc",
    " \t\n abc ",
    "it's",
    "\u{e9}\u{20ac}\u{1f980}",
    r"\x",
    r"\x00",
    r"\xdeadBEEF",
    r"\xDE AD  be ef",
    "\\x de\nad\t",
    r" \x00",
    r"\X00",
    r"\x0",
    r"\x0 0",
    r"\xg0",
    r"\x00g",
    r"\x\x00",
    r"\\",
    r"\\x00",
    r"a\\b",
    r"\000",
    r"\377\000\001",
    r"\400",
    r"\38",
    r"\1",
    r"\18",
    r"\",
    r"abc\",
    r"\n",
    r"a\134b\047c",
];

#[test]
fn text_means_what_it_means_for_bytea_or_is_refused_with_the_same_sqlstate() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    let (mut taken, mut refused) = (0, 0);
    for text in TEXTS {
        let literal = quoted(text);
        let expected = outcome(&db, &format!("select encode({literal}::bytea, 'hex')"));
        for ours in [
            format!("select encode({literal}::rbytea, 'hex')"),
            format!("select encode(rbytea {literal}, 'hex')"),
            format!("select encode({literal}::text::rbytea, 'hex')"),
            format!("select encode({literal}::cstring::text::rbytea::bytea, 'hex')"),
        ] {
            assert_eq!(outcome(&db, &ours), expected, "{text:?} means something else to rbytea: {ours}");
        }
        if expected.is_err() {
            let [ours, theirs] = ["rbytea", "bytea"].map(|ty| db.error(&format!("select {literal}::{ty}")));
            let said = |error: &DbError| {
                (
                    error.message().to_owned(),
                    error.detail().map(str::to_owned),
                    error.hint().map(str::to_owned),
                )
            };
            assert_eq!(said(&ours), said(&theirs), "{text:?} is refused in other words");
        }
        if expected.is_ok() {
            taken += 1
        } else {
            refused += 1
        }
        if cluster.installation().major >= 16 {
            let valid = |ty| db.text(&format!("select pg_input_is_valid({literal}, '{ty}')"));
            assert_eq!(valid("rbytea"), valid("bytea"), "{text:?} is not judged without an error");
        }
    }
    assert!(taken > 10 && refused > 5, "{taken} good and {refused} bad texts test nothing");
    assert!(cluster.live().is_empty(), "a literal has made a file");
}

#[test]
fn both_output_formats_print_what_bytea_prints() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    for format in ["hex", "escape"] {
        db.run(&format!("set bytea_output = {format}"));
        assert_eq!(
            db.text("select id, form from twins where v::text is distinct from b::text"),
            "",
            "the cast to text prints something else in the format {format}"
        );
        for form in ["memory", "row", "file"] {
            let column =
                |name| db.text(&format!("select {name} from twins where form = '{form}' order by id"));
            assert!(
                column("v") == column("b"),
                "{form}: a client reads something else in the format {format}"
            );
        }
    }
}

#[test]
fn binary_parameters_and_results_are_the_payload() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    for (id, bytes) in payloads().into_iter().enumerate() {
        let (id, payload) = (id as i32, Payload(bytes));
        let read = db.column::<Payload>("select v from twins where id = $1", &[&id]);
        assert_eq!(read.len(), 3);
        assert!(read.iter().all(|read| *read == payload), "payload {id} came back changed");
        assert!(db.one::<Payload>("select $1::rbytea", &[&payload]) == payload);
        assert!(db.one::<bool>(
            "select $1::rbytea = v and $1::rbytea::bytea = b from stored where id = $2",
            &[&payload, &id]
        ));
    }
    let several: Vec<Payload> = payloads().into_iter().map(Payload).collect();
    assert!(
        db.one::<Vec<Payload>>("select $1::rbytea[]", &[&several as &(dyn ToSql + Sync)]) == several,
        "an array in binary has other elements"
    );
    assert_eq!(db.one::<Option<Payload>>("select null::rbytea", &[]), None);
}

#[test]
fn casts_go_both_ways_where_bytea_needs_none() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    db.run(
        "create table copied (id int, form text, b bytea, v rbytea);
         insert into copied select id, form, v, b from twins;
         create function takes_bytea(bytea) returns bytea language sql as 'select $1';
         create function gives_rbytea(bytea) returns rbytea language plpgsql as 'begin return $1; end'",
    );
    assert_eq!(
        db.text(
            "select c.id, form from copied c join twins t using (id, form)
             where (c.b, c.v::bytea, takes_bytea(t.v), gives_rbytea(t.b)::bytea, cast(t.v as bytea), cast(t.b as rbytea)::bytea)
                is distinct from (t.b, t.b, t.b, t.b, t.b, t.b)"
        ),
        "",
        "a cast has changed bytes"
    );
    assert_eq!(db.text("select 'abc'::varchar::rbytea, 'abc'::rbytea::varchar"), r"\x616263|\x616263");
    for (ours, theirs) in
        [("select 1.5::rbytea", "select 1.5::bytea"), ("select now()::rbytea", "select now()::bytea")]
    {
        assert_eq!(outcome(&db, ours), outcome(&db, theirs), "{ours}");
    }
}
