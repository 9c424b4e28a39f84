//! The tables and their twins.

/// The table with payloads, or its twin with plain bytea.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// rbytea
    Real,
    /// bytea
    Twin,
}

impl Side {
    /// What names of this side end with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Real => "",
            Self::Twin => "_twin",
        }
    }

    /// The type of a payload.
    pub fn bytes(self) -> &'static str {
        match self {
            Self::Real => "rbytea",
            Self::Twin => "bytea",
        }
    }
}

/// What stands in the column `payload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A payload.
    Plain,
    /// A payload, or bytea at times (ALTER TABLE).
    Changing,
    /// An array of payloads.
    Array,
    /// A payload and an array of payloads in a composite value.
    Composite,
}

/// A table and its twin: `id int, n int, payload …`.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The table's name; the twin's ends in `_twin`.
    pub name: String,
    /// What its rows' locks begin with.
    pub key: i32,
    /// What it holds.
    pub shape: Shape,
    /// The values that n may have: the first and how many.
    pub ns: (i32, i32),
    /// The columns of the primary key.
    pub primary_key: &'static str,
}

impl Pair {
    fn new(name: &str, key: i32, shape: Shape) -> Self {
        Self { name: name.to_owned(), key, shape, ns: (0, 3), primary_key: "id" }
    }

    /// The tables that are always there. The rows of `s` are written by a trigger of `a`, so it is only copied from.
    pub fn all() -> Vec<Self> {
        let p = Self { primary_key: "id, n", ..Self::new("p", 3, Shape::Plain) };
        vec![
            Self::new("a", 1, Shape::Plain),
            Self::new("d", 2, Shape::Plain),
            Self { name: "p_2".to_owned(), ns: (2, 1), ..p.clone() },
            p,
            Self::new("u", 4, Shape::Plain),
            Self::new("l", 5, Shape::Array),
            Self::new("c", 6, Shape::Composite),
            Self::new("alt", 7, Shape::Changing),
        ]
    }

    /// The rows that a trigger of `a` keeps.
    pub fn shadow() -> Self {
        Self::new("s", 1, Shape::Plain)
    }

    /// Every session's own temporary tables.
    pub fn temporary() -> Self {
        Self::new("tmp", 8, Shape::Plain)
    }

    /// A table that was created on the way.
    pub fn created(number: i32) -> Self {
        Self::new(&format!("x_{number}"), 100 + number, Shape::Plain)
    }

    /// The name of one of the two tables.
    pub fn on(&self, side: Side) -> String {
        format!("{}{}", self.name, side.suffix())
    }

    /// The column's value made of one payload, an expression of any of the two types.
    pub fn pack(&self, side: Side, payload: &str) -> String {
        let (bytes, suffix) = (side.bytes(), side.suffix());
        match self.shape {
            Shape::Plain | Shape::Changing => payload.to_owned(),
            Shape::Array => format!("array[{payload}, null, {payload}]::{bytes}[]"),
            Shape::Composite => format!("row('x', {payload}, array[{payload}])::item{suffix}"),
        }
    }

    /// One payload of the column of the table called `alias`.
    pub fn unpack(&self, alias: &str) -> String {
        match self.shape {
            Shape::Plain | Shape::Changing => format!("{alias}.payload"),
            Shape::Array => format!("{alias}.payload[1]"),
            Shape::Composite => format!("({alias}.payload).body"),
        }
    }

    /// An expression for n that keeps to the values allowed here, from any number.
    pub fn fit(&self, n: &str) -> String {
        format!("{} + ({n}) % {}", self.ns.0, self.ns.1)
    }
}

/// Makes all tables of a run.
pub fn setup() -> String {
    [GEN, &for_both(SETUP), VIEW].concat()
}

/// The same statements for tables with payloads and for their twins.
pub fn for_both(statements: &str) -> String {
    [Side::Real, Side::Twin]
        .map(|side| statements.replace("{S}", side.suffix()).replace("{T}", side.bytes()))
        .concat()
}

/// Payloads that a seed and a length determine; one in four can be compressed.
const GEN: &str = "
    create function gen(seed int, len int) returns bytea language sql immutable strict as $$
        select case when seed % 4 = 0 then decode(repeat(to_hex(16 + seed / 4 % 200), len), 'hex')
            else substring(coalesce(string_agg(sha256(convert_to(seed || ':' || i, 'UTF8')), '' order by i), ''), 1, len) end
        from generate_series(1, (len + 31) / 32) i $$;";

const SETUP: &str = "
    create domain doc{S} as {T} check (octet_length(value) < 10000000);
    create type item{S} as (label text, body {T}, more {T}[]);
    create table a{S} (id int primary key, n int, payload {T} check (octet_length(payload) >= 0),
                       len int generated always as (octet_length(payload)) stored);
    create index on a{S} using hash (payload);
    create table s{S} (id int primary key, n int, payload {T});
    create function shadow{S}() returns trigger language plpgsql as $$ begin
        insert into s{S} values (new.id, new.n, new.payload)
            on conflict (id) do update set n = excluded.n, payload = excluded.payload;
        return null; end $$;
    create trigger shadow after update on a{S} for each row execute function shadow{S}();
    create table d{S} (id int primary key, n int, payload doc{S});
    create function fill{S}() returns trigger language plpgsql as $$ begin
        if new.payload is null then new.payload := gen(new.id, 50); end if;
        return new; end $$;
    create trigger fill before insert or update on d{S} for each row execute function fill{S}();
    create table p{S} (id int, n int, payload {T}, primary key (id, n)) partition by range (n);
    create table p_0{S} partition of p{S} for values from (0) to (1);
    create table p_1{S} partition of p{S} for values from (1) to (2);
    create table p_2{S} partition of p{S} for values from (2) to (3);
    create unlogged table u{S} (id int primary key, n int, payload {T});
    create table l{S} (id int primary key, n int, payload {T}[]);
    create table c{S} (id int primary key, n int, payload item{S});
    create table alt{S} (id int primary key, n int, payload {T});";

const VIEW: &str = "
    create materialized view mv as select id, x.n, x.payload, t.payload as twin from a x join a_twin t using (id);
    create unique index on mv (id);";

/// What a session makes for itself.
pub const TEMPORARY: &str = "create temp table tmp{S} (id int primary key, n int, payload {T});";

/// Every session prepares it: its constants outlive every transaction.
pub const PREPARED: &str = "
    prepare constant{S}(int, int) as insert into a{S} (id, n, payload)
        values ($1, $2, '\\x00ff636f6e7374616e742c2070726570617265642062792061207369676e6174757265'::{T});";
