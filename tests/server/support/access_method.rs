//! Tables whose access method is another one than PostgreSQL's heap.

use crate::support::installation::Installation;
use crate::support::library::Library;
use crate::support::session::Session;

/// A library with a table access method, for as long as it lives.
pub struct OtherAccessMethod(Library);

impl OtherAccessMethod {
    /// Compiles it for an installation.
    pub fn compile(installation: &Installation) -> Self {
        Self(Library::compile(installation, include_str!("access_method.c")))
    }

    /// Makes the access method `other` in a database.
    pub fn create(&self, db: &Session) {
        db.run(&format!(
            "create function other_handler(internal) returns table_am_handler as '{}' language c;
             create access method other type table handler other_handler",
            self.0.path()
        ));
    }

    /// Makes a table of the access method `other` with a column of type rbytea, which no statement allows.
    pub fn create_table(&self, db: &Session, name: &str) {
        self.create(db);
        db.run(&format!(
            "create table {name} (n int, r rbytea);
             update pg_class set relam = (select oid from pg_am where amname = 'other') where oid = '{name}'::regclass"
        ));
    }
}
