//! What the vacuum does, step by step.

use crate::action::{Action, Move};
use crate::state::{A, B, C, File, OLDER_THAN_MARK, OLDER_THAN_TRASHING, Phase, RUNNING, Run, State, Xid};
use crate::world::{Counted, PurgeMark, Stamp, Statements, Valid, World};

pub fn actions(world: &World, state: &State, actions: &mut Vec<Action>) {
    let run = &state.run;
    let mut add = |step| actions.push(Action::Vacuum(step));
    // Table C is locked by the transaction that creates it.
    let must_wait = state.creator != 0 && state.is_running(state.creator);
    match run.phase {
        Phase::Idle if state.runs < world.runs => {
            add(Move::Start { whole: true });
            if world.ordinary {
                add(Move::Start { whole: false });
            }
        }
        Phase::Idle => {}
        Phase::Started if world.rules.horizon_first => add(Move::Horizon),
        Phase::Horizon if world.rules.purge_mark == PurgeMark::None && state.runs > 0 => add(Move::Purge),
        Phase::Started | Phase::Horizon if !must_wait => add(Move::Lock),
        Phase::Started | Phase::Horizon => {}
        Phase::Locked if run.horizon.is_none() => add(Move::Horizon),
        Phase::Locked => add(Move::Scan(A)),
        Phase::ScannedA => add(Move::Scan(B)),
        Phase::ScannedB if run.found & C != 0 => add(Move::Scan(C)),
        Phase::ScannedB | Phase::Scanned => add(Move::Compare),
        Phase::Marked => add(Move::Sweep),
        Phase::Swept => {
            if (0..2).any(|payload| may_purge(world, state, payload)) {
                add(Move::Purge);
            }
            add(Move::Finish);
            if world.failures {
                add(Move::Fail);
            }
        }
        Phase::Purged => add(Move::Finish),
    }
}

pub fn step(world: &World, state: &mut State, step: Move) {
    match step {
        Move::Start { whole } => start(world, state, whole),
        Move::Horizon => take_horizon(world, state),
        Move::Lock => {
            state.run.phase = Phase::Locked;
            state.run.found = A | B | if state.creator != 0 { C } else { 0 };
            if world.rules.locks_first {
                state.run.locked = state.run.found;
            }
        }
        Move::Scan(table) => scan(world, state, table),
        Move::Compare => compare(world, state),
        Move::Sweep => sweep(world, state),
        Move::Purge => {
            for payload in 0..2 {
                if may_purge(world, state, payload) {
                    state.files[payload] = File::Purged;
                }
            }
            state.run.phase = Phase::Purged;
        }
        Move::Finish => finish(world, state),
        Move::Fail => end(state),
    }
}

fn start(world: &World, state: &mut State, whole: bool) {
    let snapshot = state.take_snapshot();
    let from = if whole { 0 } else { state.last_upper };
    state.run = Run {
        phase: Phase::Started,
        snapshot: Some(snapshot),
        upper: snapshot.xmin,
        from,
        whole,
        ..Run::default()
    };
    if world.rules.stamp == Stamp::Before {
        state.run.xid = state.assign_xid();
    }
}

fn take_horizon(world: &World, state: &mut State) {
    state.run.horizon = Some(state.horizon(world));
    state.run.local = state.local_horizon(world);
    if world.rules.horizon_first {
        state.run.phase = Phase::Horizon;
    }
    if world.rules.statements == Statements::OfTheMark {
        for session in &mut state.sessions {
            // What ran at the attempt before counts no more.
            session.statement &= !OLDER_THAN_MARK;
            if session.statement & RUNNING != 0 {
                session.statement |= OLDER_THAN_MARK;
            }
        }
    }
}

fn scan(world: &World, state: &mut State, table: u8) {
    if state.run.phase == Phase::Locked {
        state.run.remembered = remembered(world, state);
    }
    let horizon = state.horizon(world);
    for tuple in state.tuples.iter().flatten() {
        let counts = match (world.rules.counted, &state.run.snapshot) {
            (Counted::Visible, Some(snapshot)) => state.is_visible(tuple, snapshot, 0),
            _ => !state.is_dead(tuple, horizon),
        };
        let birth = state.births[tuple.payload as usize];
        if tuple.table == table && counts && birth >= state.run.from && judges(world, &state.run, birth) {
            state.run.marked |= 1 << tuple.payload;
        }
    }
    // Without the rule, locks are taken with the scan.
    state.run.locked |= table;
    state.run.phase = match table {
        A => Phase::ScannedA,
        B => Phase::ScannedB,
        _ => Phase::Scanned,
    };
}

/// Payloads that a statement which is too old may remember.
fn remembered(world: &World, state: &State) -> u8 {
    let statements = state.sessions.iter().fold(0, |all, session| all | session.statement);
    match world.rules.statements {
        Statements::Ignored => 0,
        Statements::OfTheTrashing => (statements / OLDER_THAN_TRASHING) & 3,
        Statements::OfTheMark if statements & OLDER_THAN_MARK != 0 => 3,
        Statements::OfTheMark => 0,
    }
}

fn judges(world: &World, run: &Run, birth: Xid) -> bool {
    birth == 0 || birth < run.upper || !world.rules.spares_young
}

fn compare(world: &World, state: &mut State) {
    let run = &state.run;
    let valid = match world.rules.valid {
        Valid::Always => true,
        Valid::HorizonStands => Some(state.horizon(world)) == run.horizon,
        Valid::LocalStands => state.local_horizon(world) == run.local,
        Valid::HorizonIsOwn => run.snapshot.is_some_and(|snapshot| Some(snapshot.xmin) == run.horizon),
    };
    if !valid {
        // Again, with the same snapshot.
        state.run = Run { phase: Phase::Started, horizon: None, found: 0, locked: 0, marked: 0, ..*run };
        return;
    }
    state.run.phase = Phase::Marked;
    if !world.rules.purge_looks_again {
        for payload in 0..2 {
            if is_old_garbage(world, state, payload) {
                state.run.listed |= 1 << payload;
            }
        }
    }
}

fn sweep(world: &World, state: &mut State) {
    for payload in 0..2 {
        let birth = state.births[payload];
        let marked = state.run.marked >> payload & 1 == 1;
        match state.files[payload] {
            File::Live if !marked && birth >= state.run.from && judges(world, &state.run, birth) => {
                state.files[payload] = File::Trash(None);
                for session in &mut state.sessions {
                    if session.statement & RUNNING != 0 && world.rules.statements == Statements::OfTheTrashing
                    {
                        session.statement |= OLDER_THAN_TRASHING << payload;
                    }
                }
            }
            File::Trash(_) if marked => state.files[payload] = File::Live,
            _ => {}
        }
    }
    state.run.phase = Phase::Swept;
}

fn may_purge(world: &World, state: &State, payload: usize) -> bool {
    if world.rules.purge_looks_again {
        is_old_garbage(world, state, payload)
    } else {
        matches!(state.files[payload], File::Trash(_)) && state.run.listed >> payload & 1 == 1
    }
}

fn is_old_garbage(world: &World, state: &State, payload: usize) -> bool {
    let (rules, run) = (&world.rules, &state.run);
    let File::Trash(stamp) = state.files[payload] else { return false };
    if stamp.is_none() && rules.purges_later {
        return false;
    }
    let unmarked = run.marked >> payload & 1 == 0;
    let marked_enough = match rules.purge_mark {
        PurgeMark::Full => run.whole && unmarked,
        PurgeMark::Any => unmarked,
        PurgeMark::None => true,
    };
    let remembered = if rules.statements_first { run.remembered } else { remembered(world, state) };
    marked_enough && remembered >> payload & 1 == 0 && (stamp < run.horizon || !rules.purges_below_horizon)
}

fn finish(world: &World, state: &mut State) {
    if world.rules.stamp == Stamp::After {
        state.run.xid = state.assign_xid();
    }
    let stamp = if world.rules.stamp == Stamp::Upper { state.run.upper } else { state.run.xid };
    state.running &= !(1 << state.run.xid);
    for file in &mut state.files {
        // Also what an earlier run left behind that failed: the first row of history after a move stands for it.
        if *file == File::Trash(None) {
            *file = File::Trash(Some(stamp));
        }
    }
    state.last_upper = state.run.upper;
    end(state);
}

fn end(state: &mut State) {
    state.run = Run::default();
    state.runs += 1;
    for session in &mut state.sessions {
        session.statement &= !OLDER_THAN_MARK;
    }
}
