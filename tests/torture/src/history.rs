//! What clients did and what they were answered, and whether that can have happened one after the other.

use todc_utils::{
    linearizability::{
        WGLChecker,
        history::{Action, History},
    },
    specifications::Specification,
};

/// An operation on one row, with what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It was set.
    Put(i64),
    /// It was read, and was this.
    Get(Option<i64>),
    /// It was set if it was something; whether it was, if that is known.
    Swap(i64, i64, Option<bool>),
}

/// An operation and when it was under way; one whose outcome nobody learnt is under way for ever.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// What.
    pub op: Op,
    /// From when on.
    pub begun: u64,
    /// Until when.
    pub ended: Option<u64>,
}

/// A row.
struct Row;

impl Specification for Row {
    type State = Option<i64>;
    type Operation = Op;

    fn init() -> Option<i64> {
        None
    }

    fn apply(op: &Op, state: &Option<i64>) -> (bool, Option<i64>) {
        match op {
            Op::Put(value) => (true, Some(*value)),
            Op::Get(seen) => (seen == state, *state),
            Op::Swap(from, to, done) => {
                let does = *state == Some(*from);
                (done.is_none_or(|done| done == does), if does { Some(*to) } else { *state })
            }
        }
    }
}

/// Whether there is an order in which all of this can have happened. The checker searches for one.
pub fn is_linearizable(events: &[Event]) -> bool {
    let mut actions = Vec::new();
    for (process, event) in events.iter().enumerate() {
        // At the same moment calls come first: that allows more orders, never fewer.
        actions.push((event.begun, 0, process, Action::Call(event.op)));
        actions.push((event.ended.unwrap_or(u64::MAX), 1, process, Action::Response(event.op)));
    }
    actions.sort_by_key(|(at, kind, process, _)| (*at, *kind, *process));
    if actions.is_empty() {
        return true;
    }
    let history =
        History::from_actions(actions.into_iter().map(|(_, _, process, action)| (process, action)).collect());
    WGLChecker::<Row>::is_linearizable(history)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(op: Op, begun: u64, ended: u64) -> Event {
        Event { op, begun, ended: Some(ended) }
    }

    #[test]
    fn what_was_overwritten_may_not_be_read_later() {
        let writes = [event(Op::Put(1), 0, 1), event(Op::Put(2), 2, 3)];
        let read = |value, begun, ended| event(Op::Get(Some(value)), begun, ended);
        assert!(is_linearizable(&[writes[0], writes[1], read(2, 4, 5)]));
        assert!(!is_linearizable(&[writes[0], writes[1], read(1, 4, 5)]));
        assert!(is_linearizable(&[writes[0], writes[1], read(1, 2, 5)]));
    }

    #[test]
    fn what_nobody_learnt_the_outcome_of_may_have_happened_or_not() {
        let open = Event { op: Op::Put(7), begun: 0, ended: None };
        assert!(is_linearizable(&[open, event(Op::Get(None), 1, 2), event(Op::Get(Some(7)), 3, 4)]));
        assert!(!is_linearizable(&[open, event(Op::Get(Some(7)), 1, 2), event(Op::Get(None), 3, 4)]));
        assert!(!is_linearizable(&[event(Op::Swap(1, 2, Some(true)), 0, 1)]));
    }
}
