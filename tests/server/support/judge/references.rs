//! What the rows of a database refer to, in whatever column: the catalog says which types have a payload somewhere within.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::session::Session;

/// The uuids in all visible rows of all tables and materialized views but temporary ones, each with the columns that have it.
#[track_caller]
pub fn references(db: &Session) -> BTreeMap<String, BTreeSet<String>> {
    let columns = db.rows(
        "select c.oid::regclass::text, format('%I', attname), atttypid
           from pg_class c join pg_attribute a on attrelid = c.oid join pg_namespace n on n.oid = relnamespace
          where relkind in ('r', 'm') and relpersistence <> 't' and nspname !~ '^pg_' and nspname <> 'information_schema'
            and attnum > 0 and not attisdropped and atttypid >= 16384",
        &[],
    );
    let mut types = Types { db, known: BTreeMap::new() };
    let mut references: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in columns {
        let (table, column, ty): (String, String, u32) = (row.get(0), row.get(1), row.get(2));
        let mut payloads = Vec::new();
        types.payloads(&format!("x.{column}"), ty, "", &mut payloads);
        if payloads.is_empty() {
            continue;
        }
        let all: Vec<String> = payloads
            .iter()
            .map(|(payload, within)| format!("select uuid({payload})::text u from {table} x{within}"))
            .collect();
        let sql = format!("select distinct u from ({}) r where u is not null", all.join(" union all "));
        for uuid in db.column::<String>(&sql, &[]) {
            references.entry(uuid).or_default().insert(format!("{table}.{column}"));
        }
    }
    references
}

/// The uuids alone.
#[track_caller]
pub fn uuids(db: &Session) -> BTreeSet<String> {
    references(db).into_keys().collect()
}

/// What a type is made of.
#[derive(Clone)]
enum Type {
    Payload,
    Array(u32),
    Domain(u32),
    Composite(Vec<(String, u32)>),
    Other,
}

/// The types of a database that were asked for.
struct Types<'a> {
    db: &'a Session,
    known: BTreeMap<u32, Type>,
}

impl Types<'_> {
    /// Every payload in `value`, which has this type: an expression, and what has to be in FROM for it.
    fn payloads(&mut self, value: &str, ty: u32, within: &str, found: &mut Vec<(String, String)>) {
        match self.ask(ty) {
            Type::Payload => found.push((value.to_owned(), within.to_owned())),
            Type::Domain(base) => self.payloads(value, base, within, found),
            Type::Array(element) => {
                let element_of = format!("e{}", within.len());
                let within = format!("{within}, lateral (select unnest({value}) v) {element_of}");
                self.payloads(&format!("{element_of}.v"), element, &within, found);
            }
            Type::Composite(fields) => {
                for (field, ty) in fields {
                    self.payloads(&format!("({value}).{field}"), ty, within, found);
                }
            }
            Type::Other => {}
        }
    }

    fn ask(&mut self, ty: u32) -> Type {
        if let Some(known) = self.known.get(&ty) {
            return known.clone();
        }
        let rows = self.db.rows(
            "select oid = to_regtype('rbytea'), typtype::text, typbasetype, typrelid,
                    case when typcategory = 'A' then typelem else 0 end, format_type(oid, null)
               from pg_type where oid = $1",
            &[&ty],
        );
        let row = &rows[0];
        let kind: String = row.get(1);
        let (base, relation, element): (u32, u32, u32) = (row.get(2), row.get(3), row.get(4));
        let made_of = match kind.as_str() {
            _ if row.get::<_, Option<bool>>(0) == Some(true) => Type::Payload,
            "d" => Type::Domain(base),
            "c" => {
                let fields = "select format('%I', attname), atttypid from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped";
                Type::Composite(
                    self.db.rows(fields, &[&relation]).iter().map(|row| (row.get(0), row.get(1))).collect(),
                )
            }
            "b" if element != 0 => Type::Array(element),
            _ => {
                let name: String = row.get(5);
                assert!(!name.contains("rbytea"), "nothing counts the references in a {name}");
                Type::Other
            }
        };
        self.known.insert(ty, made_of.clone());
        made_of
    }
}
