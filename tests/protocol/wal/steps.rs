//! What can happen next, and what comes of it.

use super::state::{Checkpoint, Doing, Record, State, Step};
use super::{Rules, World};

/// One step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Writer(usize, Step),
    /// What the keeper does from here on.
    Keeper(usize, Doing),
    /// A keeper takes hold, under a virtual transaction that no checkpoint knows.
    TakesHold(usize),
    /// Both hold: writers may rely on them.
    Present,
    CheckpointBegins,
    CheckpointCollects,
    CheckpointCompletes,
}

pub fn possible(world: &World, state: &State, actions: &mut Vec<Action>) {
    actions
        .extend((0..world.writers).filter_map(|n| Some(Action::Writer(n, writes(&world.rules, state, n)?))));
    for n in 0..if world.rules.two { 2 } else { 1 } {
        keeps(world, state, n, actions);
    }
    if !state.present && state.keepers.iter().all(|keeper| keeper.doing == Doing::Holds) {
        actions.push(Action::Present);
    }
    match state.checkpoint {
        Checkpoint::None if state.checkpoints < world.checkpoints => actions.push(Action::CheckpointBegins),
        Checkpoint::None => {}
        Checkpoint::Writes => actions.push(Action::CheckpointCollects),
        Checkpoint::Waits([false, false]) => actions.push(Action::CheckpointCompletes),
        Checkpoint::Waits(_) => {}
    }
}

/// The next step of a transaction.
fn writes(rules: &Rules, state: &State, n: usize) -> Option<Step> {
    let writer = &state.writers[n];
    Some(match writer.step {
        Step::Begun => Step::Written,
        Step::Written if rules.counts_before_logging => Step::Counted,
        Step::Written => Step::Looked,
        Step::Counted if rules.counts_before_logging => Step::Looked,
        Step::Looked => Step::Logged,
        Step::Logged if !rules.counts_before_logging => Step::Counted,
        // A file that was written before the look is synced by those who were there then when they end.
        Step::Logged | Step::Counted if writer.relies => Step::Ready,
        Step::Logged | Step::Counted => Step::OnItsOwn,
        Step::OnItsOwn => Step::Synced,
        Step::Synced => Step::Ready,
        Step::Ready => Step::Committed,
        Step::Committed => return None,
    })
}

/// What a keeper may do next.
fn keeps(world: &World, state: &State, n: usize, actions: &mut Vec<Action>) {
    let rules = &world.rules;
    let keeper = &state.keepers[n];
    let mut does = |doing| actions.push(Action::Keeper(n, doing));
    match keeper.doing {
        Doing::Absent => actions.push(Action::TakesHold(n)),
        Doing::Holds => {
            if !keeper.has_synced {
                does(Doing::HasRead);
            } else if rules.lets_go_again && may_take_token(rules, state, n) {
                does(Doing::HasToken);
            }
            if state.ends < world.ends {
                does(if rules.says_so_first {
                    Doing::Ends
                } else {
                    Doing::EndSyncs { cached: state.cached }
                });
            }
        }
        // Nothing is synced that is known to be durable.
        Doing::HasRead if state.counted == state.known => does(Doing::HasSynced),
        Doing::HasRead => does(Doing::Syncs { cached: state.cached, counted: state.counted }),
        Doing::Syncs { .. } => does(Doing::HasSynced),
        Doing::HasSynced => {
            if may_take_token(rules, state, n) {
                does(Doing::HasToken);
            }
        }
        Doing::HasToken => {
            let is_still = keeper.has_read || !rules.looks_again;
            does(if is_still { Doing::HasLooked } else { Doing::Holds });
        }
        Doing::HasLooked => does(Doing::HasLetGo),
        Doing::HasLetGo => actions.push(Action::TakesHold(n)),
        Doing::Ends if rules.syncs_at_the_end => does(Doing::EndSyncs { cached: state.cached }),
        Doing::Ends => does(Doing::EndHasSynced),
        Doing::EndSyncs { .. } => does(Doing::EndHasSynced),
        Doing::EndHasSynced => does(Doing::Absent),
    }
}

/// The other one holds, and is not about to let go.
fn may_take_token(rules: &Rules, state: &State, n: usize) -> bool {
    state.token.is_none() && (!rules.two || state.keepers[1 - n].doing.holds())
}

pub fn take(world: &World, state: &mut State, action: Action) {
    match action {
        Action::Writer(n, step) => write(state, n, step),
        Action::Keeper(n, doing) => keep(world, state, n, doing),
        Action::TakesHold(n) => {
            state.keepers[n].doing = Doing::Holds;
            if state.token == Some(n) {
                state.token = None;
            }
        }
        Action::Present => state.present = true,
        Action::CheckpointBegins => {
            state.redo = state.wal.len();
            state.checkpoint = Checkpoint::Writes;
            state.checkpoints += 1;
            for keeper in &mut state.keepers {
                (keeper.has_read, keeper.has_synced) = (false, false);
            }
        }
        Action::CheckpointCollects => {
            let count = if world.rules.two { 2 } else { 1 };
            let collected = std::array::from_fn(|n| n < count && state.keepers[n].doing.holds());
            state.checkpoint = Checkpoint::Waits(collected);
        }
        Action::CheckpointCompletes => {
            state.wal.push(Record::Checkpoint { redo: state.redo });
            state.recovery = state.redo;
            state.checkpoint = Checkpoint::None;
        }
    }
}

fn write(state: &mut State, n: usize, step: Step) {
    match step {
        Step::Written => state.cached |= 1 << n,
        Step::Counted => state.counted |= 1 << n,
        Step::Looked => state.writers[n].relies = state.present,
        Step::Logged => state.wal.push(Record::Put { payload: n }),
        Step::Synced => state.durable |= 1 << n,
        Step::Begun | Step::OnItsOwn | Step::Ready | Step::Committed => {}
    }
    state.writers[n].step = step;
}

fn keep(world: &World, state: &mut State, n: usize, doing: Doing) {
    let rules = &world.rules;
    let keeper = &mut state.keepers[n];
    let before = std::mem::replace(&mut keeper.doing, doing);
    match (before, doing) {
        (_, Doing::HasRead) => keeper.has_read = rules.reads_first,
        (Doing::Syncs { cached, counted }, _) => {
            state.durable |= cached;
            state.known |= if rules.counts_before_syncing { counted } else { state.counted };
            keeper.has_read |= !rules.reads_first;
        }
        (Doing::HasRead, Doing::HasSynced) => keeper.has_read |= !rules.reads_first,
        (Doing::EndSyncs { cached }, _) => state.durable |= cached,
        (_, Doing::HasToken) => state.token = Some(n),
        (Doing::HasToken, Doing::Holds) => state.token = None,
        (_, Doing::HasLetGo) => keeper.has_synced = keeper.has_read,
        _ => {}
    }
    if let Checkpoint::Waits(waits) = &mut state.checkpoint
        && !doing.holds()
    {
        waits[n] = false;
    }
    let begins_to_end =
        doing == Doing::Ends || before == Doing::Holds && matches!(doing, Doing::EndSyncs { .. });
    state.ends += u8::from(begins_to_end);
    // It says so before it syncs, or, without that rule, when it lets go.
    if doing == Doing::Ends || doing == Doing::Absent {
        state.present = false;
    }
}
