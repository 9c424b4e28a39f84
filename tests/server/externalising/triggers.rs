//! Payloads and the users' own triggers, whatever they are called and whatever they do to the row.

use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};

#[test]
fn what_a_before_trigger_puts_into_the_row_is_stored() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    // A name that sorts after all usual ones.
    db.run(
        "create function change() returns trigger language plpgsql as
            $$ begin new.b := payload(new.n * 2); new.r := payload(new.n * 2); return new; end $$;
         create trigger zzz before insert or update on t for each row execute function change()",
    );

    db.fill("t", 1..=3);
    db.assert_stored("t", 3);
    assert_eq!(db.one::<i64>("select count(*) from t where b = payload(n * 2)", &[]), 3);
    assert_eq!(cluster.live().len(), 3, "the payloads that the trigger replaced were never written");

    db.run("update t set n = n + 10");
    db.assert_stored("t", 3);
    assert_eq!(db.one::<i64>("select count(*) from t where b = payload(n * 2)", &[]), 3);
}

#[test]
fn a_before_trigger_with_a_name_behind_all_others_loses_nothing() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        r#"create function change() returns trigger language plpgsql as
              $$ begin
                  if new.r::bytea is distinct from new.b then raise 'the trigger sees other bytes'; end if;
                  new.b := payload(new.n * 2); new.r := payload(new.n * 2); return new;
              end $$;
           create trigger "~~~" before insert or update on t for each row execute function change()"#,
    );

    db.fill("t", 1..=3);
    db.assert_same("t", 3);
    db.run("update t set b = payload(50), r = payload(50), n = n + 10");
    db.assert_same("t", 3);
    db.rvacuum();
    db.assert_same("t", 3);
}

#[test]
fn triggers_read_new_and_old_payloads() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        r#"create table seen (trigger text, op text, same bool, stored bool);
           create function look() returns trigger language plpgsql as
              $$ begin
                  insert into seen values (tg_name, tg_op, new.r::bytea = new.b, uuid(new.r) is not null);
                  if tg_op = 'UPDATE' then
                      insert into seen values (tg_name, 'OLD', old.r::bytea = old.b, uuid(old.r) is not null);
                  end if;
                  return new;
              end $$;
           create trigger a before insert or update on t for each row execute function look();
           create trigger "~~~" before insert or update on t for each row execute function look();
           create trigger later after insert or update on t for each row execute function look();
           create function look_at_all() returns trigger language plpgsql as
              $$ begin
                  insert into seen select tg_name, tg_op, r::bytea = b, uuid(r) is not null from changed;
                  return null;
              end $$;
           create trigger once_i after insert on t referencing new table as changed
              for each statement execute function look_at_all();
           create trigger once_u after update on t referencing new table as changed
              for each statement execute function look_at_all()"#,
    );

    db.fill("t", 1..=2);
    db.run("update t set b = payload(-n), r = payload(-n)");
    db.assert_stored("t", 2);
    assert_eq!(db.one::<i64>("select count(*) from seen where same is not true", &[]), 0);
    assert_eq!(
        db.text("select trigger, op, count(*) from seen where not stored group by 1, 2 order by 1, 2"),
        "a|INSERT|2\na|UPDATE|2",
        "only a trigger before ours sees a payload that has no file yet"
    );
    assert_eq!(
        db.text("select trigger, count(*) from seen group by 1 order by 1"),
        "a|6\nlater|6\nonce_i|2\nonce_u|2\n~~~|6"
    );
}

#[test]
fn a_trigger_that_skips_or_restores_the_row_leaves_only_garbage() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=2);
    let before = db.uuids("r", "t");
    db.run(
        r#"create function skip() returns trigger language plpgsql as $$ begin return null; end $$;
           create function keep() returns trigger language plpgsql as $$ begin return old; end $$;
           create trigger "~~~" before insert on t for each row execute function skip();
           create trigger "~~u" before update on t for each row execute function keep()"#,
    );

    db.fill("t", 3..=4);
    db.run("update t set b = payload(-n), r = payload(-n)");
    db.assert_stored("t", 2);
    assert_eq!(db.uuids("r", "t"), before);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 2);
}

#[test]
fn triggers_may_store_by_themselves_and_copy_between_tables() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create table history (n int, b bytea, r rbytea);
         create function save() returns trigger language plpgsql as
            $$ begin insert into history select (old).*; return new; end $$;
         create trigger save after update on t for each row execute function save();
         create function store() returns trigger language plpgsql as
            $$ begin new.r := rbytea_store(new.b); return new; end $$;
         create trigger store before insert on t for each row execute function store()",
    );

    db.run("insert into t (n, b) select n, payload(n) from generate_series(1, 3) n");
    db.assert_stored("t", 3);
    assert_eq!(cluster.live().len(), 3, "a value that is stored already is not stored again");
    let before = db.uuids("r", "t");
    db.run("update t set b = payload(-n), r = payload(-n)");
    db.assert_stored("t", 3);
    db.assert_stored("history", 3);
    assert_eq!(db.uuids("r", "history"), before, "the history has the files of the rows that it keeps");
    assert_eq!(db.rvacuum(), 0);
    db.assert_stored("history", 3);
}
