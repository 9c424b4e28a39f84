//! Tools that compare a database with a program's classes. They ask the catalog, where the column is an rbytea, and know no such type: each is
//! run as it is, so that what it would do is known, and with the declaration that docs/CLIENTS.md recommends.

use super::running::Program;
use super::scenario;
use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// `documents` with a payload, and `old`, which is still of bytea.
fn cluster() -> (Cluster, Session) {
    let cluster = scenario::cluster(&[]);
    let db = cluster.session();
    db.run(
        "create table documents (id serial primary key, note text not null, content rbytea);
         insert into documents (note, content) values ('kept', 'payload');
         create table old (id serial primary key, content bytea)",
    );
    (cluster, db)
}

/// The column is what it was.
#[track_caller]
fn assert_kept(db: &Session, after: &str) {
    let kept = db.text("select pg_typeof(content), uuid(content) is not null, convert_from(content::bytea, 'UTF8') from documents where note = 'kept'");
    assert_eq!(kept, "rbytea|t|payload", "{after}");
}

/// Its lines that begin with this word.
fn lines<'a>(output: &'a str, word: &str) -> Vec<&'a str> {
    output.lines().filter_map(|line| line.strip_prefix(word)).map(str::trim).collect()
}

/// A migration for a table that a program has in bytea is written (`old`), nothing is dropped that the extension made.
#[test]
#[ignore = "takes drivers: make driver-test"]
fn alembic() {
    let (cluster, db) = cluster();
    let program = Program::Source("alembic/schema.py");
    let undeclared = program.prints(&cluster, &["undeclared"]);
    assert_eq!(lines(&undeclared, "reflected"), ["NullType"]);
    assert_eq!(lines(&undeclared, "wants"), [""; 0], "tables of the extension, or changes of the column");

    let declared = program.prints(&cluster, &["declared"]);
    assert_eq!(lines(&declared, "reflected"), ["RBytea"]);
    assert_eq!(lines(&declared, "wants"), ["modify_type old.content BYTEA rbytea"]);
    assert_eq!(lines(&declared, "content"), [r"b'\\101\x00'"]);
    assert_eq!(lines(&declared, "migration"), ["RBytea()"]);
    assert_eq!(db.text("select pg_typeof(content), uuid(content) is not null from new"), "rbytea|t");
    assert_kept(&db, "alembic");
}

/// It goes by the description of a result, which says bytea.
#[test]
#[ignore = "takes drivers: make driver-test"]
fn django() {
    let (cluster, db) = cluster();
    let program = Program::Source("django/schema.py");
    let undeclared = program.prints(&cluster, &["undeclared"]);
    assert_eq!(lines(&undeclared, "    content ="), ["models.BinaryField(blank=True, null=True)"]);

    let declared = program.prints(&cluster, &["declared"]);
    assert_eq!(lines(&declared, "content"), [r"b'\\101\x00'"]);
    assert_eq!(
        db.text("select pg_typeof(content), uuid(content) is not null from documents_new"),
        "rbytea|t"
    );
}

/// **Drops the column** where a class says bytea.
#[test]
#[ignore = "takes drivers: make driver-test"]
fn typeorm_synchronize() {
    let (cluster, db) = cluster();
    let program = Program::Source("typeorm/schema.js");
    let undeclared = program.prints(&cluster, &["undeclared"]);
    assert_eq!(
        lines(&undeclared, "wants"),
        [
            r#"ALTER TABLE "documents" DROP COLUMN "content""#,
            r#"ALTER TABLE "documents" ADD "content" bytea"#
        ]
    );

    let declared = program.prints(&cluster, &["declared"]);
    assert_eq!(lines(&declared, "wants"), [""; 0]);
    assert_eq!(lines(&declared, "content"), ["<Buffer 5c 31 30 31 00>"]);
    assert_eq!(db.text("select bool_and(uuid(content) is not null) from documents"), "t");
    assert_kept(&db, "synchronize");
}

/// Turns the column into a bytea where a class says so; the payloads stay.
#[test]
#[ignore = "takes drivers: make driver-test"]
fn sequelize_alter() {
    let (cluster, db) = cluster();
    let program = Program::Source("sequelize/schema.js");
    let declared = program.prints(&cluster, &["declared"]);
    assert_eq!(lines(&declared, "content"), ["<Buffer 5c 31 30 31 00>"]);
    assert_eq!(db.text("select bool_and(uuid(content) is not null) from documents"), "t");
    assert_kept(&db, "sync({ alter: true })");

    program.prints(&cluster, &["undeclared"]);
    let turned = db
        .text("select pg_typeof(content), convert_from(content, 'UTF8') from documents where note = 'kept'");
    assert_eq!(turned, "bytea|payload");
}

/// Leaves the table out of schema.rb.
#[test]
#[ignore = "takes drivers: make driver-test"]
fn activerecord_schema() {
    let (cluster, db) = cluster();
    let program = Program::Source("activerecord/schema.rb");
    let undeclared = program.prints(&cluster, &["undeclared"]);
    assert_eq!(
        lines(&undeclared, "# Could not dump table"),
        [r#""documents" because of following StandardError"#],
        "tables of the extension, or more of the program's"
    );

    let declared = program.prints(&cluster, &["declared"]);
    assert_eq!(lines(&declared, "# Could not dump table"), [""; 0]);
    assert_eq!(lines(&declared, "    t.rbytea"), [r#""content""#]);
    assert_eq!(lines(&declared, "content"), [r#""\\101\x00""#]);
    assert_eq!(lines(&declared, "loaded"), ["rbytea"]);
    assert_eq!(db.text("select count(*) from documents"), "0", "schema.rb creates the table anew");
}
