//! What PostgreSQL's own regression tests ask of bytea, asked anew: scripts of statements, run in databases with bytea and with
//! rbytea in the place of `@type`. A client has to see the same: columns and their types, parameters, rows, messages and errors, word for
//! word but for the type's name. What differs is in `differences`, with its reason.
//!
//! `«abc»` in a script is a value: a constant, or one that is stored in a file. Statements follow each other as in a session; a script
//! is a session of its own in the database that all of them share.

mod differences;
mod script;
mod side;

use std::collections::BTreeSet;

use differences::{DIFFERENCES, is_same};
use script::{replace_values, statements};
use side::{Form, Side};

use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;

const SCRIPTS: &[(&str, &str)] = &[
    ("literals", include_str!("literals.sql")),
    ("functions", include_str!("functions.sql")),
    ("storage", include_str!("storage.sql")),
    ("casts", include_str!("casts.sql")),
    ("ordering", include_str!("ordering.sql")),
    ("grouping", include_str!("grouping.sql")),
    ("windows", include_str!("windows.sql")),
    ("sets", include_str!("sets.sql")),
    ("joins", include_str!("joins.sql")),
    ("aggregates", include_str!("aggregates.sql")),
    ("tables", include_str!("tables.sql")),
    ("routines", include_str!("routines.sql")),
];

/// Equal values, prefixes of each other, high bytes, nothing, NULL, and long values that differ in their last byte.
const GOODS: &str = r"
    create table goods (id int primary key, kind text, v @type, w @type, b bytea);
    insert into goods values
        (1, 'a', '\x00', '\x00'), (2, 'a', '', '\xff'), (3, 'b', '\xff', '\x00'), (4, 'b', null, null), (5, 'b', '\x00', null),
        (6, 'c', '\x0001', '\x00'), (7, 'c', '\x7f80', '\x7f80'), (8, 'c', 'abc', 'abd'), (9, 'd', 'abd', 'abc'), (10, 'd', 'abc', ''),
        (11, 'd', null, '\x00');
    insert into goods values
        (12, 'e', decode(repeat('6162', 4500) || '01', 'hex'), 'abc'), (13, 'e', decode(repeat('6162', 4500) || '02', 'hex'), 'abd');
    update goods set b = v";

#[test]
fn statements_about_bytea_have_the_same_answers() {
    // A plan of what is disabled costs as much as one that is worth compiling.
    let cluster = Cluster::with_extension_and(&["jit = off"]);
    let major = cluster.installation().major;
    let mut values = BTreeSet::new();
    for (_, script) in SCRIPTS {
        replace_values(script, |value| {
            values.insert(value.to_owned());
            String::new()
        });
    }
    let mut met = vec![0; DIFFERENCES.len()];
    let (mut compared, mut refused, mut wrong) = (0, 0, Vec::new());
    for form in [Form::Inline, Form::Stored] {
        let ours = Side::new(&cluster, "rbytea", form, GOODS, &values);
        let theirs = Side::new(&cluster, "bytea", form, GOODS, &values);
        let stored =
            ours.session().text("select distinct uuid(v) is not null from goods where v is not null");
        assert_eq!(stored, if form == Form::Stored { "t" } else { "f" }, "{form:?} is something else");
        for (name, script) in SCRIPTS {
            let (our_session, their_session) = (ours.session(), theirs.session());
            for statement in statements(script).into_iter().filter(|statement| statement.since <= major) {
                let found = ours.answer(&our_session, &statement);
                let expected = theirs.answer(&their_session, &statement);
                let same = is_same(&found, &expected);
                compared += 1;
                refused += u64::from(expected.starts_with("error "));
                let text = statement.on_one_line();
                let listed = DIFFERENCES.iter().zip(&mut met).find(|(difference, _)| {
                    difference.of == text
                        && difference.majors.contains(&major)
                        && difference.forms.contains(&form)
                });
                let complaint = match listed {
                    None if same => None,
                    None => Some("differs".to_owned()),
                    Some((difference, met)) => {
                        *met += 1;
                        difference.complaint(&found, &expected)
                    }
                };
                let Some(complaint) = complaint else { continue };
                let place = format!("{name}.sql:{} ({form:?})", statement.line);
                wrong.push(format!("{place} {complaint}: {text}\n  rbytea {found}\n  bytea  {expected}"));
            }
        }
    }
    for (difference, met) in DIFFERENCES.iter().zip(met) {
        if difference.majors.contains(&major) && met != difference.forms.len() {
            wrong.push(format!("is listed, and was met {met} times: {}", difference.of));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n\n{}\n", wrong.len(), wrong.join("\n\n"));
    assert!(
        refused > compared / 10 && refused < compared / 2,
        "{refused} of {compared} statements are refused"
    );
    proves_by_assertions(Promise::LikeBytea, compared);
}
