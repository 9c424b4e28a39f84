//! What sessions do.

use crate::action::{Action, Step};
use crate::state::{A, B, BLOCK, C, File, Memory, RUNNING, Session, State, Tuple, Xid};
use crate::world::{Keep, Statements, World};

pub fn actions(world: &World, state: &State, actions: &mut Vec<Action>) {
    for index in 0..world.sessions {
        let session = &state.sessions[index];
        let mut add = |step| actions.push(Action::Session(index as u8, step));
        match &session.snapshot {
            None => add(Step::Snapshot),
            Some(snapshot) => {
                add(Step::EndSnapshot);
                if world.nested && session.outer == 0 {
                    add(Step::InnerSnapshot);
                }
                for tuple in state.tuples() {
                    if !state.is_visible(tuple, snapshot, session.xid) {
                        continue;
                    }
                    if session.memory.is_none_or(|memory| {
                        world.lineage && memory != remembered(tuple) || memory.payload != tuple.payload
                    }) {
                        add(Step::Read(*tuple));
                    }
                    if tuple.xmax == 0 {
                        add(Step::Delete(*tuple));
                    }
                }
                if world.write && state.files[1] == File::Absent {
                    add(Step::Write);
                }
                if world.tables & C != 0 && state.creator == 0 {
                    add(Step::CreateTable);
                }
                if let Some(memory) = session.memory {
                    copies(world, state, index, memory, &mut add);
                }
            }
        }
        if session.outer != 0 && session.snapshot.is_none() {
            add(Step::EndOuter);
        }
        let runs = session.statement & RUNNING != 0;
        let in_block = session.statement & BLOCK != 0;
        // Outside of a block a transaction ends before its statement, and in one, after it.
        if runs && (in_block || session.xid == 0) {
            add(Step::EndStatement);
        }
        if world.blocks && session.statement == 0 && session.xid == 0 {
            add(Step::Begin);
        }
        if (session.xid != 0 || session.locked != 0 || in_block) && !(runs && in_block) {
            add(Step::Commit);
        }
        if session.xid != 0 {
            add(Step::Abort);
        }
        if world.truncate {
            for table in [A, B] {
                let free = state.run.locked & table == 0 && !is_used_by_other(state, index, table);
                if free && state.tuples().any(|tuple| tuple.table == table) {
                    add(Step::Truncate(table));
                }
            }
        }
    }
}

fn copies(world: &World, state: &State, index: usize, memory: Memory, add: &mut impl FnMut(Step)) {
    let session = &state.sessions[index];
    let own = session.xid != 0 && state.births[memory.payload as usize] == session.xid;
    if !own && !session.checked && world.checked != 0 && state.files[memory.payload as usize] != File::Purged
    {
        add(Step::Check(memory.payload));
    }
    if state.tuples().count() >= world.tuples {
        return;
    }
    for table in [A, B, C] {
        if world.tables & table != 0
            && !is_hidden(state, session, table)
            && (own || session.checked || world.checked & table == 0)
        {
            add(Step::Insert(table, memory.payload));
        }
    }
}

/// Whether another session uses the table, which TRUNCATE waits for.
fn is_used_by_other(state: &State, index: usize, table: u8) -> bool {
    state.sessions.iter().enumerate().any(|(other, session)| other != index && session.locked & table != 0)
}

/// Whether another session is creating the table and holds ACCESS EXCLUSIVE on it.
fn is_hidden(state: &State, session: &Session, table: u8) -> bool {
    table == C && (state.creator == 0 || state.is_running(state.creator) && session.xid != state.creator)
}

fn remembered(tuple: &Tuple) -> Memory {
    Memory { payload: tuple.payload, held: true, clean: tuple.clean }
}

pub fn step(world: &World, state: &mut State, index: usize, step: Step) {
    let mut session = state.sessions[index];
    match step {
        Step::Begin => session.statement |= BLOCK,
        Step::Snapshot => {
            session.snapshot = Some(state.take_snapshot());
            if world.rules.statements != Statements::Ignored {
                session.statement |= RUNNING;
            }
        }
        Step::InnerSnapshot => {
            session.outer = session.snapshot.map_or(0, |snapshot| snapshot.xmin);
            session.snapshot = Some(state.take_snapshot());
            session.checked = false;
        }
        Step::EndSnapshot => {
            session.snapshot = None;
            session.checked = false;
            if session.outer == 0 {
                let_go(world, &mut session);
            }
        }
        Step::EndOuter => {
            session.outer = 0;
            let_go(world, &mut session);
        }
        Step::EndStatement => {
            session.snapshot = None;
            session.outer = 0;
            session.checked = false;
            end_statement(world, &mut session);
        }
        Step::Read(tuple) => {
            touch(world, &mut session, tuple.table);
            session.memory = Some(remembered(&tuple));
            session.checked = false;
        }
        Step::Delete(tuple) => {
            touch(world, &mut session, tuple.table);
            let xid = own_xid(state, &mut session);
            if let Some(found) = state.tuples.iter_mut().flatten().find(|found| **found == tuple) {
                found.xmax = xid;
            }
        }
        Step::Write => {
            state.births[1] = own_xid(state, &mut session);
            state.files[1] = File::Live;
            session.memory = Some(Memory { payload: 1, held: true, clean: true });
            session.checked = false;
        }
        Step::CreateTable => state.creator = own_xid(state, &mut session),
        Step::Check(payload) => {
            if matches!(state.files[payload as usize], File::Trash(_)) {
                state.files[payload as usize] = File::Live;
            }
            session.checked = true;
        }
        Step::Insert(table, payload) => {
            touch(world, &mut session, table);
            let xmin = own_xid(state, &mut session);
            let clean = session.memory.is_some_and(|memory| memory.clean);
            if let Some(place) = state.tuples.iter_mut().find(|slot| slot.is_none()) {
                *place = Some(Tuple { table, payload, xmin, xmax: 0, clean });
            }
        }
        Step::Truncate(table) => {
            state.remove_tuples(|tuple| tuple.table == table);
            end_transaction(world, state, &mut session, true);
        }
        Step::Commit => end_transaction(world, state, &mut session, true),
        Step::Abort => end_transaction(world, state, &mut session, false),
    }
    state.sessions[index] = session;
}

fn own_xid(state: &mut State, session: &mut Session) -> Xid {
    if session.xid == 0 {
        session.xid = state.assign_xid();
        if let Some(snapshot) = &mut session.snapshot {
            snapshot.unseen |= 1 << session.xid;
        }
    }
    session.xid
}

fn touch(world: &World, session: &mut Session, table: u8) {
    if world.truncate {
        session.locked |= table;
    }
}

/// The last snapshot is gone.
fn let_go(world: &World, session: &mut Session) {
    if world.keep == Keep::Snapshot {
        session.memory = None;
    }
    if let Some(memory) = &mut session.memory {
        memory.held = false;
        memory.clean = false;
    }
}

fn end_statement(world: &World, session: &mut Session) {
    session.statement &= BLOCK;
    let_go(world, session);
    if world.keep != Keep::Session {
        session.memory = None;
    }
}

fn end_transaction(world: &World, state: &mut State, session: &mut Session, commits: bool) {
    let xid = session.xid;
    if xid != 0 {
        state.running &= !(1 << xid);
        if !commits {
            state.remove_tuples(|tuple| tuple.xmin == xid);
            for tuple in state.tuples.iter_mut().flatten() {
                if tuple.xmax == xid {
                    tuple.xmax = 0;
                }
            }
            if state.creator == xid {
                state.creator = 0;
            }
        }
    }
    session.xid = 0;
    session.snapshot = None;
    session.outer = 0;
    session.checked = false;
    session.locked = 0;
    let_go(world, session);
    if session.statement & BLOCK != 0 {
        end_statement(world, session);
        session.statement = 0;
    }
}
