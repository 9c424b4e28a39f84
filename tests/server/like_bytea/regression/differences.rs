//! Where rbytea answers something else than bytea, and why.

use std::ops::RangeFrom;

use super::side::Form;

/// A statement of the scripts whose answers differ.
pub struct Difference {
    /// The statement, on one line.
    pub of: &'static str,
    /// A part of what rbytea answers.
    pub ours: &'static str,
    pub reason: &'static str,
    /// Major versions of PostgreSQL in which the answers differ.
    pub majors: RangeFrom<u32>,
    /// Where the values are that the answers differ about.
    pub forms: &'static [Form],
}

impl Difference {
    /// What is wrong with these answers to the statement, of rbytea and of bytea; None if they differ as they are said to.
    pub fn complaint(&self, ours: &str, theirs: &str) -> Option<String> {
        if is_same(ours, theirs) {
            // There are builds of PostgreSQL without XML.
            let is_missing = theirs.contains("built with libxml");
            return (!is_missing).then(|| format!("does not differ, although {}", self.reason));
        }
        (!ours.contains(self.ours))
            .then(|| format!("differs otherwise than by {:?} because {}", self.ours, self.reason))
    }
}

/// Whether rbytea answers what bytea does, but for the type's name.
pub fn is_same(ours: &str, theirs: &str) -> bool {
    ours.replace("rbytea", "bytea") == theirs
}

const BOTH: &[Form] = &[Form::Inline, Form::Stored];

const fn difference(of: &'static str, ours: &'static str, reason: &'static str) -> Difference {
    Difference { of, ours, reason, majors: 15.., forms: BOTH }
}

const fn since(major: u32, difference: Difference) -> Difference {
    Difference { majors: major.., ..difference }
}

const fn stored(difference: Difference) -> Difference {
    Difference { forms: &[Form::Stored], ..difference }
}

const INDEX: &str = "an index keeps entries of deleted rows, whose files the vacuum deletes, so that only hash indexes, which keep no values, are allowed";
const NO_OPERATOR_CLASS: &str = "an index keeps entries of deleted rows, so that rbytea has operator classes for hash indexes, and for sorts, alone";
const BOUNDS: &str = "the bounds of a partition keep values whose files the vacuum deletes";
const STATISTICS: &str = "extended statistics keep values of deleted rows, whose files the vacuum deletes";
const HASH: &str = "the hash of a value is that of its digest, so that hashing reads no file";
const OTHER_TYPE: &str =
    "rbytea is another type than bytea, and PostgreSQL compares arrays and records of one type";
const XML: &str = "the XML functions know bytea by its OID, and print other types as their text";
const ASSIGNED: &str =
    "bytea becomes rbytea in assignments and explicitly, not as an argument, so that no call is ambiguous";
const ARGUMENT: &str = "a parameter stays an rbytea where it is the argument of a function that would not be found for bytea when the statement is analysed again";
const JSON: &str = "the SQL/JSON constructors and predicates know bytea by its OID, and take only it and the types of strings";
const INTEGERS: &str = "the casts between bytea and integers, of PostgreSQL 18, are bytea's alone: they take two steps, 100::bytea::rbytea";
const VIRTUAL: &str =
    "PostgreSQL allows virtual generated columns neither types nor functions of an extension";
const SIZE: &str = "a stored value is a reference of 79 bytes";

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    difference("select xmlelement(name payload, «abc»)", r"<payload>\x616263</payload>", XML),
    difference("select xmlforest(«abc» as payload)", r"<payload>\x616263</payload>", XML),
    difference(
        "select xmlelement(name payload, xmlattributes(«abc» as bytes), 'x')",
        r#"<payload bytes="\x616263">"#,
        XML,
    ),
    stored(difference("select pg_column_compression(v) from squeezed", "NULL", SIZE)),
    stored(difference("select pg_column_size(v) between 200 and 1000 from squeezed", "\nf\n", SIZE)),
    difference(
        "select pg_column_size(«a payload») between 9 and 13",
        "\nf\n",
        "a value in memory or in a row has a byte more than a bytea, which tells it from a reference, and a stored one is a reference",
    ),
    difference("select hash_array(array[«a»])", "23\n-584092106\n", HASH),
    difference("select hash_array_extended(array[«a»], 0)", "20\n6027058585768261174\n", HASH),
    difference("select hash_record(row(«a»))", "23\n-584092137\n", HASH),
    difference(
        "select hash_array(array[«a»]) = hash_array(array['a'::bytea]), hash_array(array[«a»]) = hash_array(array[«a»])",
        "\nf|t\n",
        HASH,
    ),
    difference(
        "select record_image_eq(row(«a»), row(«a»)), record_image_ne(row(«a»), row('a'::bytea))",
        "42804: cannot compare dissimilar column types",
        OTHER_TYPE,
    ),
    difference(
        "select array[«a», «b»] @> array['a'::bytea], array['a'::bytea] && array[«a»]",
        "42883: operator does not exist: rbytea[] @> bytea[]",
        OTHER_TYPE,
    ),
    difference(
        "with recursive r (n, v) as (select 1, «a» union all select n + 1, v || 'b' from r where n < 4) select * from r order by n",
        "42804: recursive query \"r\" column 2 has type rbytea in non-recursive term but type bytea overall",
        "what computes bytes returns bytea, and PostgreSQL wants both terms of a recursive query to be of one type",
    ),
    difference(
        "select column_name, data_type, character_octet_length, column_default from information_schema.columns where table_name = 'parcels' and column_name = 'w'",
        "w|USER-DEFINED|NULL|",
        "information_schema calls every type of an extension USER-DEFINED",
    ),
    difference("create table keyed (v @type primary key)", "0A000: indexes that hold values", INDEX),
    difference("create table unique_ones (id int, v @type unique)", "0A000: indexes that hold values", INDEX),
    difference("create index on indexed (v)", "0A000: indexes that hold values", INDEX),
    difference("create unique index on indexed (v)", "0A000: indexes that hold values", INDEX),
    difference("create unique index on kept (v)", "0A000: indexes that hold values", INDEX),
    difference("create index on indexed using gin (a)", "0A000: indexes that hold values", INDEX),
    difference(
        "create index on indexed using brin (v)",
        "42704: data type rbytea has no default operator class",
        NO_OPERATOR_CLASS,
    ),
    difference(
        "create index on indexed using brin (v bytea_bloom_ops)",
        "42804: operator class",
        NO_OPERATOR_CLASS,
    ),
    difference(
        "insert into tagged values (2, 'xyz', '{abc,def}') returning t, a, t > 'abc', t = any (a)",
        "columns t 17, a 1001,",
        "an array of a domain is shown as bytea[], as drivers that look up what it is made of would find rbytea",
    ),
    difference("create table by_list (id int, v @type) partition by list (v)", "0A000: partitioning", BOUNDS),
    difference(
        "create table by_range (id int, v @type) partition by range (v, id)",
        "0A000: partitioning",
        BOUNDS,
    ),
    difference(
        "create statistics indexed_statistics on id, v from indexed",
        "0A000: extended statistics",
        STATISTICS,
    ),
    difference(
        "select first_byte('abc'::bytea)",
        "42883: function first_byte(bytea) does not exist",
        ASSIGNED,
    ),
    difference(
        "call put('a', 300)",
        "columns v (rbytea)",
        "the columns of CALL are described from the procedure's parameters, where no hook can change them",
    ),
    difference(
        "select first_byte($1), head($1, $2), as_bytea($3), spread($4, $5)",
        "parameters (rbytea),  23,  17,  (rbytea),  (rbytea);",
        ARGUMENT,
    ),
    since(
        16,
        difference(
            "select «abc» is json, «{\"a\": 1}» is json, «[1]» is json array, «[1]» is json object",
            "42804: cannot use type rbytea in IS JSON predicate",
            JSON,
        ),
    ),
    since(
        16,
        difference(
            "select json_object('a': «x» format json)",
            "42804: cannot use non-string types with explicit FORMAT JSON clause",
            JSON,
        ),
    ),
    since(
        17,
        difference(
            "select json_serialize('{\"a\": 1}' returning @type)",
            "42804: cannot use type rbytea in RETURNING clause of JSON_SERIALIZE()",
            JSON,
        ),
    ),
    since(17, difference("select json(«{\"a\": 1}»)", "42846: cannot cast type rbytea to json", JSON)),
    since(18, difference("select «1»::int", "42846: cannot cast type rbytea to integer", INTEGERS)),
    since(18, difference("select «1»::smallint", "42846: cannot cast type rbytea to smallint", INTEGERS)),
    since(18, difference("select «1»::bigint", "42846: cannot cast type rbytea to bigint", INTEGERS)),
    since(18, difference("select 1::@type", "42846: cannot cast type integer to rbytea", INTEGERS)),
    since(
        18,
        difference(
            "select 1::smallint::@type, 1::bigint::@type",
            "42846: cannot cast type smallint to rbytea",
            INTEGERS,
        ),
    ),
    since(
        18,
        difference(
            "select «\\x00000001»::int, «\\x0001»::smallint, «\\x01»::bigint, «»::int",
            "42846: cannot cast type rbytea to integer",
            INTEGERS,
        ),
    ),
    since(
        18,
        difference(
            "select 258::@type = '\\x00000102', (-1)::bigint::@type",
            "42846: cannot cast type integer to rbytea",
            INTEGERS,
        ),
    ),
    since(
        18,
        difference("select «\\x0102030405»::int", "42846: cannot cast type rbytea to integer", INTEGERS),
    ),
    since(18, difference("select array[«a»]::int[]", "42846: cannot cast type rbytea to integer", INTEGERS)),
    since(18, difference("select array[1]::@type[]", "42846: cannot cast type integer to rbytea", INTEGERS)),
    since(
        18,
        difference(
            "create table virtual (v @type, r @type generated always as (substr(v, 2)) virtual)",
            "0A000: virtual generated column \"r\" cannot have a user-defined type",
            VIRTUAL,
        ),
    ),
    since(
        18,
        difference(
            "create table virtual_length (v @type, n int generated always as (length(v)) virtual)",
            "0A000: generation expression uses user-defined function",
            VIRTUAL,
        ),
    ),
];
