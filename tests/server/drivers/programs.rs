//! The programs of tests/drivers, one test for each, in every mode in which a driver encodes and decodes in another way.

use std::fs;

use super::running::{Program, assert_right, assert_same};
use super::scenario::{self, BYTEA, RBYTEA};

#[test]
#[ignore = "takes drivers: make driver-test"]
fn psycopg2() {
    assert_same(Program::Source("psycopg2/main.py"), &["client_cursor", "named_cursor"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn psycopg3() {
    let modes = ["text", "binary", "prepared", "client_cursor", "copy"];
    assert_same(Program::Source("psycopg3/main.py"), &modes);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn asyncpg() {
    assert_same(Program::Source("asyncpg/main.py"), &["prepared", "unprepared", "copy"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn pg8000() {
    assert_same(Program::Source("pg8000/main.py"), &["prepared"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn psqlodbc() {
    assert_same(Program::Source("pyodbc/main.py"), &["prepared", "unprepared"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn sqlalchemy() {
    let modes = ["psycopg2", "psycopg", "pg8000", "asyncpg"];
    assert_same(Program::Source("sqlalchemy/main.py"), &modes);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn django() {
    let modes = ["psycopg2", "psycopg", "server_side_binding"];
    assert_same(Program::Source("django/main.py"), &modes);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn node_postgres() {
    assert_same(Program::Source("node_postgres/main.js"), &["unprepared", "prepared", "binary"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn postgres_js() {
    assert_same(Program::Source("postgres_js/main.js"), &["prepared", "unprepared"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn typeorm() {
    assert_same(Program::Source("typeorm/main.js"), &["repository"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn sequelize() {
    assert_same(Program::Source("sequelize/main.js"), &["model"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn pgjdbc() {
    // Its simple query mode has no bytea at all before 42.7.
    let modes = ["extended", "prepared", "binary", "streams", "updatable"];
    assert_same(Program::Java("postgresql.jar"), &modes);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn lib_pq() {
    assert_same(Program::Compiled("go/lib_pq"), &["text", "binary_parameters", "copy"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn pgx() {
    assert_same(Program::Compiled("go/pgx"), &["prepared", "simple", "copy"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn sqlx() {
    assert_same(Program::Compiled("sqlx/debug/rbytea-sqlx"), &["prepared", "not_kept", "unprepared"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn pdo() {
    assert_same(Program::Source("pdo/main.php"), &["prepared", "emulated", "unprepared"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn dbd_pg() {
    assert_same(Program::Source("dbd_pg/main.pl"), &["prepared", "unprepared"]);
}

#[test]
#[ignore = "takes drivers: make driver-test"]
fn activerecord() {
    assert_same(Program::Source("activerecord/main.rb"), &["prepared", "unprepared"]);
}

/// It asks the catalog for the types of columns, where the column is an rbytea, and takes what it does not know for text. So a class has to say
/// `attribute :content, :binary`, or the program tells ActiveRecord of the type (docs/CLIENTS.md).
#[test]
#[ignore = "takes drivers: make driver-test"]
fn activerecord_that_is_not_told_of_the_type_takes_bytes_for_text() {
    let cluster = scenario::cluster(&[]);
    let program = Program::Source("activerecord/main.rb");
    assert_right(program, "undeclared", &cluster, BYTEA);

    let db = cluster.session();
    let table = scenario::create_table(&db, RBYTEA);
    let output =
        program.output(&cluster, &[&table, scenario::files(&cluster).to_str().unwrap(), "undeclared"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("string contains null byte"), "{errors}");
    let octal = cluster.dir().join("octal");
    fs::create_dir(&octal).unwrap();
    fs::write(octal.join("octal"), r"\101").unwrap();
    program.output(&cluster, &[&table, octal.to_str().unwrap(), "undeclared"]);
    let stored =
        db.text(&format!("select convert_from(content::bytea, 'UTF8') from {table} where name = 'octal'"));
    assert_eq!(stored, "A");
}

/// What all these tests rest on: a program whose bytes come as text does not pass for one that has read them.
#[test]
#[ignore = "takes drivers: make driver-test"]
fn where_clients_are_told_of_the_type_psycopg_reads_text() {
    let cluster = scenario::cluster(&["rbytea.client_type = rbytea"]);
    let program = Program::Source("psycopg3/main.py");
    assert_right(program, "binary", &cluster, RBYTEA);
    let table = scenario::create_table(&cluster.session(), RBYTEA);
    let output = program.output(&cluster, &[&table, scenario::files(&cluster).to_str().unwrap(), "text"]);
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("Strings must be encoded"), "{printed}{errors}");
}
