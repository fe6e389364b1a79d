//! Snapshots that are made by themselves: when, how many are kept, and what whoever leads does for that.

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, civil::Time, tz::TimeZone};
use quantix_api::{
    NewSchedule, NewSnapshot, Problem, ProblemCode, Schedule, Severity, TaskKind, TaskState, VmState,
    Weekday, When,
};
use quantix_storage::VolumeId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    checks::invalid,
    holding::Dropping,
    kept::{self, text, unreadable},
    snapshots,
};
use crate::{
    api::Agent,
    cluster::Refused,
    events::{self, Happened},
    sessions::now_ms,
    tasks::{self, NewTask},
};

/// How many a machine has at most. With what each keeps they leave room among its snapshots for those of people.
const MOST: usize = 3;
const MOST_KEPT: u16 = 24;
/// How often is looked whether it is time.
const LOOK: Duration = Duration::from_secs(5);
/// As whom tasks are made.
const ACTOR: &str = "schedule";
const HOUR_MS: i64 = 60 * 60 * 1000;

const SELECT: &str = "SELECT id, vm, moments, keep, next_at, task, trouble, made_at, made_by,
        (SELECT count(*) FROM snapshot WHERE snapshot.schedule = schedule.id) AS snapshots FROM schedule";

/// A schedule as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    vm: String,
    /// What was begun for it, and has not been seen to have ended.
    task: Option<i64>,
    next_at: i64,
    pub(crate) shown: Schedule,
}

/// What time it is for a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Wait,
    Now,
    /// The clock was ahead when the next time was set: it would wait too long.
    Anew,
}

fn due(when: When, next_at: i64, now_ms: i64) -> Due {
    let longest = match when {
        When::Hours { hours } => i64::from(hours) * HOUR_MS,
        When::Day { .. } => 24 * HOUR_MS,
        When::Week { .. } => 7 * 24 * HOUR_MS,
    };
    match next_at - now_ms {
        ..=0 => Due::Now,
        ahead if ahead > longest => Due::Anew,
        _ => Due::Wait,
    }
}

/// The first time after a moment. However many were missed, it is one.
fn next(when: When, after_ms: i64) -> i64 {
    let after = Timestamp::from_millisecond(after_ms).unwrap_or_default().to_zoned(TimeZone::UTC).datetime();
    let ms = |at: jiff::civil::DateTime| {
        at.to_zoned(TimeZone::UTC).map_or(i64::MAX, |at| at.timestamp().as_millisecond())
    };
    let days_on = |days: i64, hour: u8, minute: u8| {
        let time = Time::new(i8::try_from(hour).unwrap_or(0), i8::try_from(minute).unwrap_or(0), 0, 0);
        let at = after.date().to_datetime(time.unwrap_or_default());
        ms(at.saturating_add(jiff::Span::new().days(days)))
    };
    match when {
        // What does not divide a day begins anew at midnight.
        When::Hours { hours } => {
            let hours = hours.max(1);
            let next = (after.hour().unsigned_abs() / hours + 1).saturating_mul(hours);
            if next >= 24 { days_on(1, 0, 0) } else { days_on(0, next, 0) }
        }
        When::Day { hour, minute } => {
            let today = days_on(0, hour, minute);
            if today > after_ms { today } else { days_on(1, hour, minute) }
        }
        When::Week { weekday, hour, minute } => {
            let is_on = Weekday::ALL.iter().position(|day| *day == weekday).unwrap_or(0);
            let is_now = after.weekday().to_monday_zero_offset().unsigned_abs();
            let ahead = (is_on + 7 - usize::from(is_now)) % 7;
            let ahead = i64::try_from(ahead).unwrap_or(0);
            let soon = days_on(ahead, hour, minute);
            if soon > after_ms { soon } else { days_on(ahead + 7, hour, minute) }
        }
    }
}

fn of_row(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default();
    let next_at = row.get("next_at")?;
    Ok(Kept {
        vm: row.get("vm")?,
        task: row.get("task")?,
        next_at,
        shown: Schedule {
            id: row.get("id")?,
            when: serde_json::from_str(&row.get::<_, String>("moments")?).map_err(unreadable)?,
            keep: row.get("keep")?,
            snapshots: row.get("snapshots")?,
            next_at: at(next_at),
            trouble: row.get("trouble")?,
            made_at: at(row.get("made_at")?),
            made_by: row.get("made_by")?,
        },
    })
}

/// Those for which there may be something to do.
fn waiting(connection: &Connection, now_ms: i64) -> rusqlite::Result<Vec<String>> {
    let mut waiting = Vec::new();
    let mut all = connection.prepare_cached("SELECT id, moments, next_at, task IS NOT NULL FROM schedule")?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let when = serde_json::from_str(&row.get::<_, String>(1)?).map_err(unreadable)?;
        if wants(when, row.get(2)?, row.get(3)?, now_ms) {
            waiting.push(row.get(0)?);
        }
    }
    Ok(waiting)
}

/// Those of a machine, the oldest first.
pub(crate) fn of_vm(connection: &Connection, vm: &str) -> rusqlite::Result<Vec<Kept>> {
    connection
        .prepare_cached(&format!("{SELECT} WHERE vm = ?1 ORDER BY made_at, id"))?
        .query_map([vm], of_row)?
        .collect()
}

fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Kept>> {
    connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?.query_row([id], of_row).optional()
}

/// One of a machine.
pub(crate) fn one(connection: &Connection, vm: &str, id: &str) -> Result<Kept, Refused> {
    let not_there = || Problem::new(ProblemCode::NotFound, "This machine has no such schedule.");
    find(connection, id)?.filter(|kept| kept.vm == vm).ok_or_else(|| not_there().into())
}

fn check(new: &NewSchedule) -> Result<(), Refused> {
    if !(1..=MOST_KEPT).contains(&new.keep) {
        return Err(invalid("keep", format!("1 to {MOST_KEPT} snapshots are kept.")));
    }
    let is_time = match new.when {
        When::Hours { hours } if !(1..=24).contains(&hours) => {
            return Err(invalid(
                "when",
                "A schedule is for every 1 to 24 hours, for every day or for every week.",
            ));
        }
        When::Hours { .. } => true,
        When::Day { hour, minute } | When::Week { hour, minute, .. } => hour < 24 && minute < 60,
    };
    if is_time { Ok(()) } else { Err(invalid("when", "A time is one from 00:00 to 23:59.")) }
}

/// Has snapshots of a machine made by themselves.
pub(crate) fn add(
    connection: &Connection,
    vm: &kept::Kept,
    new: &NewSchedule,
    by: &str,
    now_ms: i64,
) -> Result<Kept, Refused> {
    check(new)?;
    let vm_id = vm.id.to_string();
    if vm.policy.template {
        let sentence = "It is a template, and stays as it is: there is nothing to go back to.";
        return Err(Problem::new(ProblemCode::Conflict, sentence).into());
    }
    let others = of_vm(connection, &vm_id)?;
    if others.len() >= MOST {
        let sentence = format!("A machine has at most {MOST} schedules. Remove one first.");
        return Err(Problem::new(ProblemCode::Conflict, sentence).into());
    }
    if others.iter().any(|other| other.shown.when == new.when) {
        return Err(invalid("when", "The machine has a schedule for these times already."));
    }
    let id = VolumeId::new().to_string();
    let next_at = if new.at_once { now_ms } else { next(new.when, now_ms) };
    connection.execute(
        "INSERT INTO schedule (id, vm, moments, keep, next_at, made_at, made_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![id, vm_id, text(&new.when), new.keep, next_at, now_ms, by],
    )?;
    one(connection, &vm_id, &id)
}

/// Removes a schedule. The snapshots that it made stay, and are nobody's but the machine's.
pub(crate) fn remove(connection: &Connection, schedule: &Kept, now_ms: i64) -> Result<(), Refused> {
    let id = &schedule.shown.id;
    events::clear(connection, &key(schedule), now_ms)?;
    connection.execute("UPDATE snapshot SET schedule = NULL WHERE schedule = ?1", [id])?;
    connection.execute("DELETE FROM schedule WHERE id = ?1", [id])?;
    Ok(())
}

/// The machine is removed, and with it all of them.
pub(crate) fn forget_all(connection: &Connection, vm: &str, now_ms: i64) -> Result<(), Refused> {
    of_vm(connection, vm)?.iter().try_for_each(|schedule| remove(connection, schedule, now_ms))
}

/// The key of the event that it did not come to a snapshot.
fn key(schedule: &Kept) -> String {
    format!("vm/{}/schedule/{}", schedule.vm, schedule.shown.id)
}

/// Whether there may be something to do.
fn wants(when: When, next_at: i64, has_task: bool, now_ms: i64) -> bool {
    has_task || due(when, next_at, now_ms) != Due::Wait
}

/// Does the next thing that there is to do for a schedule, if there is one.
fn carry_on(connection: &Connection, id: &str, now_ms: i64) -> Result<(), Refused> {
    let Some(schedule) = find(connection, id)? else { return Ok(()) };
    if !wants(schedule.shown.when, schedule.next_at, schedule.task.is_some(), now_ms) {
        return Ok(());
    }
    let Some(vm) = kept::find(connection, &schedule.vm)? else { return Ok(()) };
    // Something else is being done with it, or nobody knows how it is: this waits, and is done once.
    if vm.task.is_some() || vm.state == VmState::Unknown {
        return Ok(());
    }
    if let Some(task) = schedule.task {
        return has_ended(connection, &schedule, &vm, task, now_ms);
    }
    let time = due(schedule.shown.when, schedule.next_at, now_ms);
    let next_at = next(schedule.shown.when, now_ms);
    connection.execute("UPDATE schedule SET next_at = ?2 WHERE id = ?1", params![id, next_at])?;
    if time == Due::Now { hold(connection, &schedule, &vm, now_ms) } else { Ok(()) }
}

/// Begins a snapshot.
fn hold(connection: &Connection, schedule: &Kept, vm: &kept::Kept, now_ms: i64) -> Result<(), Refused> {
    let at = Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let new = NewSnapshot {
        name: format!("{} {}", ACTOR, at.strftime("%Y-%m-%d %H:%M:%S")),
        description: format!("Made {}", schedule.shown.when.words()),
        memory: false,
        // A guest whose agent answers can hold its file systems.
        freeze: vm.state == VmState::Running && vm.more.guest.is_some(),
    };
    match snapshots::add(connection, vm, &new, ACTOR, now_ms) {
        Ok(holding) => {
            connection.execute(
                "UPDATE snapshot SET schedule = ?2 WHERE id = ?1",
                [&holding.snapshot, &schedule.shown.id],
            )?;
            begin(connection, schedule, vm, TaskKind::SnapshotVm, &holding, now_ms)
        }
        // Nothing was begun.
        Err(Refused::Problem(problem)) => fails(connection, schedule, vm, &problem.detail, now_ms),
        Err(refused) => Err(refused),
    }
}

fn begin(
    connection: &Connection,
    schedule: &Kept,
    vm: &kept::Kept,
    kind: TaskKind,
    params: &impl serde::Serialize,
    now_ms: i64,
) -> Result<(), Refused> {
    let new = NewTask {
        kind,
        object: vm.scope(),
        object_name: vm.spec.name.clone(),
        host: Some(vm.host),
        params: serde_json::to_value(params).unwrap_or_default(),
        actor: ACTOR.to_owned(),
        address: String::new(),
    };
    let task = tasks::kept::add(connection, &new, now_ms)?;
    connection.execute("UPDATE schedule SET task = ?2 WHERE id = ?1", params![schedule.shown.id, task.id])?;
    Ok(())
}

/// What was begun has ended: either the oldest go next, or it is well, or somebody is told that it is not.
fn has_ended(
    connection: &Connection,
    schedule: &Kept,
    vm: &kept::Kept,
    task: i64,
    now_ms: i64,
) -> Result<(), Refused> {
    if let Some(task) = tasks::kept::find(connection, task)?
        && task.standing.state != TaskState::Done
    {
        return fails(connection, schedule, vm, &task.standing.outcome, now_ms);
    }
    let made = snapshots::made_by_schedule(connection, &schedule.vm, &schedule.shown.id)?;
    let surplus = made.len().saturating_sub(usize::from(schedule.shown.keep));
    if surplus > 0 {
        let oldest = &made[..surplus];
        let dropping = Dropping {
            name: oldest[0].shown.name.clone(),
            snapshots: oldest.iter().map(|snapshot| snapshot.shown.id.clone()).collect(),
        };
        return begin(connection, schedule, vm, TaskKind::DeleteSnapshot, &dropping, now_ms);
    }
    settle(connection, schedule, "")?;
    events::clear(connection, &key(schedule), now_ms)
}

fn settle(connection: &Connection, schedule: &Kept, trouble: &str) -> Result<(), Refused> {
    connection.execute(
        "UPDATE schedule SET task = NULL, trouble = ?2 WHERE id = ?1",
        [schedule.shown.id.as_str(), trouble],
    )?;
    Ok(())
}

/// It is tried again when it is time the next time.
fn fails(
    connection: &Connection,
    schedule: &Kept,
    vm: &kept::Kept,
    why: &str,
    now_ms: i64,
) -> Result<(), Refused> {
    settle(connection, schedule, why)?;
    let happened = Happened {
        key: key(schedule),
        severity: Severity::Warning,
        component: "virtual machines".to_owned(),
        object: vm.scope().to_string(),
        host: vm.host_name.clone(),
        sentence: format!(
            "The snapshots of {} that are made {} did not come about: {why}",
            vm.spec.name,
            schedule.shown.when.words()
        ),
        is_lasting: true,
    };
    events::raise(connection, &happened, now_ms)
}

impl Agent {
    /// Has snapshots made when it is time, while this host leads.
    pub(crate) async fn keep_schedules(self: Arc<Self>) {
        let store = self.cluster.opened().await;
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let term = *store.leadership().borrow();
            let Some(term) = term else { continue };
            if let Err(problem) = self.look_at_schedules(term).await {
                log::debug!("Schedules were not looked at: {problem}");
            }
        }
    }

    async fn look_at_schedules(&self, term: u64) -> Result<(), Problem> {
        let now = now_ms();
        for id in self.cluster.read(move |connection| waiting(connection, now)).await? {
            let done = self.cluster.write_in(term, move |connection| carry_on(connection, &id, now)).await;
            // It is looked at again soon, and the others wait for none.
            if let Err(problem) = done {
                log::debug!("A schedule was not carried on: {problem}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::kept::tests::{machine, with_pool};

    fn ms(time: &str) -> i64 {
        time.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn after(when: When, time: &str) -> String {
        Timestamp::from_millisecond(next(when, ms(time))).unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_the_first_that_comes() {
        let six = When::Hours { hours: 6 };
        assert_eq!(after(six, "2026-11-29T05:59:59Z"), "2026-11-29T06:00:00Z");
        assert_eq!(after(six, "2026-11-29T06:00:00Z"), "2026-11-29T12:00:00Z");
        assert_eq!(after(six, "2026-12-31T18:30:00Z"), "2027-01-01T00:00:00Z");
        assert_eq!(after(When::Hours { hours: 5 }, "2026-11-29T20:10:00Z"), "2026-11-30T00:00:00Z");
        assert_eq!(after(When::Hours { hours: 24 }, "2026-11-29T00:00:00Z"), "2026-11-30T00:00:00Z");
        let daily = When::Day { hour: 2, minute: 30 };
        assert_eq!(after(daily, "2026-11-29T02:29:00Z"), "2026-11-29T02:30:00Z");
        assert_eq!(after(daily, "2026-11-29T02:30:00Z"), "2026-11-30T02:30:00Z");
        // The 29th of November 2026 is a Sunday.
        let weekly = |weekday| When::Week { weekday, hour: 3, minute: 0 };
        assert_eq!(after(weekly(Weekday::Sunday), "2026-11-29T02:00:00Z"), "2026-11-29T03:00:00Z");
        assert_eq!(after(weekly(Weekday::Sunday), "2026-11-29T03:00:00Z"), "2026-12-06T03:00:00Z");
        assert_eq!(after(weekly(Weekday::Monday), "2026-11-29T04:00:00Z"), "2026-11-30T03:00:00Z");
        assert_eq!(after(weekly(Weekday::Saturday), "2026-11-29T04:00:00Z"), "2026-12-05T03:00:00Z");
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_nobody_waiting() {
        let daily = When::Day { hour: 2, minute: 0 };
        let now = ms("2026-11-29T12:00:00Z");
        assert_eq!(due(daily, ms("2026-11-30T02:00:00Z"), now), Due::Wait);
        assert_eq!(due(daily, now, now), Due::Now);
        assert_eq!(due(daily, ms("2026-01-01T02:00:00Z"), now), Due::Now);
        assert_eq!(due(daily, ms("2031-01-01T02:00:00Z"), now), Due::Anew);
    }

    fn new(keep: u16) -> NewSchedule {
        NewSchedule { when: When::Hours { hours: 1 }, keep, at_once: false }
    }

    /// What is open is done, as a host does it.
    fn work(connection: &Connection, vm: &str, fails: bool) -> Vec<TaskKind> {
        let open = tasks::kept::open(connection).unwrap();
        for task in &open {
            let state = if fails { "failed" } else { "done" };
            connection
                .execute(
                    "UPDATE task SET state = ?2, outcome = 'It broke.', ended_at = 1 WHERE id = ?1",
                    params![task.id, state],
                )
                .unwrap();
            match task.kind {
                _ if fails => {
                    connection.execute("DELETE FROM snapshot WHERE is_ready = 0", []).map(drop).unwrap();
                }
                TaskKind::SnapshotVm => {
                    connection
                        .execute("UPDATE snapshot SET is_ready = 1 WHERE vm = ?1", [vm])
                        .map(drop)
                        .unwrap();
                }
                _ => {
                    let dropping: Dropping = serde_json::from_value(task.params.clone()).unwrap();
                    for id in dropping.snapshots {
                        connection.execute("DELETE FROM snapshot WHERE id = ?1", [id]).unwrap();
                    }
                }
            }
        }
        open.into_iter().map(|task| task.kind).collect()
    }

    fn alarms(connection: &Connection) -> usize {
        events::open_below(connection, "vm/").unwrap().len()
    }

    #[test]
    fn the_last_ones_are_kept_and_those_of_people_stay() {
        let (connection, id) = machine("web-01");
        with_pool(&connection);
        let vm = || kept::one(&connection, &id).unwrap();
        let people =
            NewSnapshot { name: "mine".into(), description: String::new(), memory: false, freeze: false };
        snapshots::add(&connection, &vm(), &people, "ada", 1).unwrap();
        connection.execute("UPDATE snapshot SET is_ready = 1", []).unwrap();
        let begin = ms("2026-11-29T00:30:00Z");
        let schedule = add(&connection, &vm(), &new(2), "ada", begin).unwrap().shown.id;
        let turn = |now| carry_on(&connection, &schedule, now).unwrap();
        turn(begin + 1000);
        assert!(tasks::kept::open(&connection).unwrap().is_empty(), "it is not time yet");
        for hour in 1..=4 {
            // Three times were missed before the last.
            let now = begin + if hour == 4 { 7 * HOUR_MS } else { hour * HOUR_MS };
            turn(now);
            turn(now);
            assert_eq!(work(&connection, &id, false), [TaskKind::SnapshotVm], "{hour}");
            turn(now + 1);
            let dropped = work(&connection, &id, false);
            assert_eq!(dropped.len(), usize::from(hour > 2), "{hour}: {dropped:?}");
            turn(now + 2);
            turn(now + 3);
            assert!(tasks::kept::open(&connection).unwrap().is_empty(), "{hour}");
        }
        let made = snapshots::of_vm(&connection, &id).unwrap();
        let names: Vec<_> = made.iter().map(|snapshot| snapshot.shown.name.as_str()).collect();
        assert_eq!(names, ["mine", "schedule 2026-11-29 03:30:00", "schedule 2026-11-29 07:30:00"]);
        let shown = one(&connection, &id, &schedule).unwrap().shown;
        assert_eq!((shown.snapshots, shown.trouble.as_str(), alarms(&connection)), (2, "", 0));
        assert_eq!(shown.next_at.to_string(), "2026-11-29T08:00:00Z");
        // What it made is the machine's once the schedule is gone.
        remove(&connection, &one(&connection, &id, &schedule).unwrap(), 1).unwrap();
        assert_eq!(snapshots::of_vm(&connection, &id).unwrap().len(), 3);
        assert!(snapshots::made_by_schedule(&connection, &id, &schedule).unwrap().is_empty());
    }

    #[test]
    fn what_fails_is_an_alarm_until_it_comes_about() {
        let (connection, id) = machine("web-01");
        let vm = || kept::one(&connection, &id).unwrap();
        let begin = ms("2026-11-29T00:30:00Z");
        let schedule = add(&connection, &vm(), &new(2), "ada", begin).unwrap().shown.id;
        let turn = |now| carry_on(&connection, &schedule, now).unwrap();
        let trouble = || one(&connection, &id, &schedule).unwrap().shown.trouble;
        turn(begin + HOUR_MS);
        work(&connection, &id, true);
        turn(begin + HOUR_MS + 1);
        assert_eq!((trouble().as_str(), alarms(&connection)), ("It broke.", 1));
        // Not before it is time again.
        assert!(waiting(&connection, begin + HOUR_MS + 2).unwrap().is_empty());
        assert_eq!(waiting(&connection, begin + 2 * HOUR_MS).unwrap(), std::slice::from_ref(&schedule));
        turn(begin + HOUR_MS + 2);
        assert!(tasks::kept::open(&connection).unwrap().is_empty());
        turn(begin + 2 * HOUR_MS);
        work(&connection, &id, false);
        turn(begin + 2 * HOUR_MS + 1);
        assert_eq!((trouble().as_str(), alarms(&connection)), ("", 0));
        // With a host that is lost it waits, and is done once when that is back.
        let lost = |at| crate::cluster::kept::note_lost(&connection, kept::tests::HOST, at).unwrap();
        lost(Some(1));
        for hour in 3..6 {
            turn(begin + hour * HOUR_MS);
        }
        assert!(tasks::kept::open(&connection).unwrap().is_empty());
        lost(None);
        turn(begin + 6 * HOUR_MS);
        assert_eq!(work(&connection, &id, false).len(), 1);
        turn(begin + 6 * HOUR_MS + 1);
        turn(begin + 6 * HOUR_MS + 2);
        assert!(tasks::kept::open(&connection).unwrap().is_empty());
        // A machine that cannot be held is told of, too.
        connection
            .execute("INSERT INTO vm_seen (vm, state, since, more) VALUES (?1, 'suspended', 0, '{}')", [&id])
            .unwrap();
        turn(begin + 7 * HOUR_MS);
        assert_eq!(alarms(&connection), 1);
        kept::forget(&connection, &id, 1).unwrap();
        assert_eq!((alarms(&connection), of_vm(&connection, &id).unwrap().len()), (0, 0));
    }

    #[test]
    fn a_machine_has_a_few_and_no_two_of_the_same_times() {
        let (connection, id) = machine("web-01");
        let vm = kept::one(&connection, &id).unwrap();
        let add = |new: &NewSchedule| add(&connection, &vm, new, "ada", 1).map(|kept| kept.shown.id);
        let field = |new: &NewSchedule| match add(new) {
            Err(Refused::Problem(problem)) => problem.field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(&new(0)).as_deref(), Some("keep"));
        assert_eq!(field(&new(25)).as_deref(), Some("keep"));
        let at = |when| NewSchedule { when, keep: 2, at_once: false };
        assert_eq!(field(&at(When::Hours { hours: 0 })).as_deref(), Some("when"));
        assert_eq!(field(&at(When::Day { hour: 24, minute: 0 })).as_deref(), Some("when"));
        add(&new(2)).unwrap();
        assert_eq!(field(&new(3)).as_deref(), Some("when"));
        add(&at(When::Day { hour: 2, minute: 0 })).unwrap();
        add(&at(When::Week { weekday: Weekday::Sunday, hour: 2, minute: 0 })).unwrap();
        assert!(add(&at(When::Day { hour: 3, minute: 0 })).is_err());
    }
}
