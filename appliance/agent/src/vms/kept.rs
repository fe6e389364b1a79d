//! Virtual machines as they are kept, as SQL.

use jiff::Timestamp;
use quantix_api::{
    ChangeVm, Held, NewDisk, Page, Problem, ProblemCode, Scope, TaskKind, Vm, VmPolicy, VmQuery, VmSpec,
    VmState,
};
use quantix_compute::{VmId, check};
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension, Row, params, types::Value as Sql};
use serde::de::DeserializeOwned;

use super::{
    checks::{check_policy, checked, invalid, name_must_be_free},
    cloud_init, counts,
    disks::{self, Making},
    folders, schedules,
    sighting::{self, More},
    snapshots,
};
use crate::{
    cluster::{self, Refused},
    list::{self, Asked, Table},
    storage::{
        layers, pools,
        volumes::{self, ToMake},
    },
    version::Version,
};

const MOST: i64 = 10_000;

/// How a machine is, in SQL: one whose host has been lost is in no state that anybody knows, and what is being done shows
/// before it is seen.
macro_rules! state_in_sql {
    () => {
        "CASE
            WHEN host.id IS NULL OR host.lost_at IS NOT NULL THEN 'unknown'
            WHEN task.kind = 'start-vm' AND coalesce(seen.state, 'stopped') IN ('stopped', 'suspended', 'crashed')
                THEN 'starting'
            WHEN task.kind = 'shut-down-vm' AND task.state = 'running' AND seen.state = 'running' THEN 'stopping'
            ELSE coalesce(seen.state, 'stopped') END"
    };
}
pub(super) use state_in_sql;

const COLUMNS: &str = concat!(
    "vm.id, vm.spec, vm.policy, vm.folder, vm.host, coalesce(host.name, '') AS host_name, vm.is_wanted_on,
     vm.described, vm.cloud_init IS NOT NULL AS has_cloud_init,
     coalesce(vm.cloud_init ->> '$.asked.user', '') AS user,
     (SELECT count(*) FROM snapshot WHERE snapshot.vm = vm.id) AS snapshots, vm.made_at, vm.made_by, vm.version, coalesce(seen.state, 'stopped') AS seen_state,
     coalesce(seen.since, vm.made_at) AS since, seen.more, task.id AS task, task.kind AS task_kind, ",
    state_in_sql!(),
    " AS state"
);

pub(super) const FROM: &str = "vm
    LEFT JOIN vm_seen AS seen ON seen.vm = vm.id
    LEFT JOIN host ON host.id = vm.host
    LEFT JOIN task ON task.id = (SELECT min(open.id) FROM task AS open
                                 WHERE open.object = 'vm/' || vm.id AND open.ended_at IS NULL)";

pub(crate) const TABLE: Table = Table {
    columns: COLUMNS,
    from: FROM,
    key: "vm.id",
    searched:
        "concat_ws(char(10), vm.name, vm.id, host.name, vm.spec ->> 'description', vm.policy ->> 'owner', vm.policy ->> 'labels',
                         seen.more ->> '$.guest.hostname', seen.more ->> '$.guest.cards')",
    sorts: &[
        ("name", "vm.name COLLATE NOCASE"),
        ("state", "coalesce(seen.state, 'stopped')"),
        ("host", "coalesce(host.name, '')"),
        (
            "cpus",
            "(vm.spec ->> '$.cpu.sockets') * (vm.spec ->> '$.cpu.cores') * (vm.spec ->> '$.cpu.threads')",
        ),
        ("memory", "vm.spec ->> '$.memory.mib'"),
        ("made", "vm.made_at"),
    ],
    newest_first: false,
};

/// A machine as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: VmId,
    pub(crate) spec: VmSpec,
    pub(crate) policy: VmPolicy,
    pub(crate) folder: Option<i64>,
    pub(crate) host: HostId,
    pub(crate) host_name: String,
    pub(crate) is_wanted_on: bool,
    /// Counts the changes of what libvirt is told.
    pub(crate) described: u64,
    /// Whether its guest is told something when it starts for the first time.
    pub(crate) has_cloud_init: bool,
    /// As whom one gets in.
    user: String,
    /// How many snapshots it has.
    snapshots: u32,
    /// As its host saw it last.
    pub(crate) seen: VmState,
    pub(crate) since_ms: i64,
    pub(crate) more: More,
    /// As it is shown: with what is being done, and whether its host answers.
    pub(crate) state: VmState,
    /// What is being done with it.
    pub(crate) task: Option<(i64, TaskKind)>,
    made_at: i64,
    made_by: String,
    pub(crate) version: u64,
}

impl Kept {
    pub(crate) fn scope(&self) -> Scope {
        Scope::Vm(self.id.to_string())
    }

    /// Whether it comes or goes just now: whatever its host does with it is done by that task.
    pub(crate) fn comes_or_goes(&self) -> bool {
        matches!(self.task, Some((_, TaskKind::CreateVm | TaskKind::ImportVm | TaskKind::DeleteVm)))
    }

    /// Whether its disks are put into other layers just now: what libvirt knows of them differs for a moment.
    pub(super) fn changes_layers(&self) -> bool {
        let kinds =
            [TaskKind::SnapshotVm, TaskKind::RevertVm, TaskKind::DeleteSnapshot, TaskKind::MoveVolume];
        self.task.as_ref().is_some_and(|(_, kind)| kinds.contains(kind))
    }

    /// The machine as somebody sees it.
    pub(crate) fn shown(self, connection: &Connection, roles: &[Held]) -> rusqlite::Result<Vm> {
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default();
        let id = self.id.to_string();
        let place = folders::place_of_vm(connection, &id, self.folder)?;
        let is_on = self.seen.is_on();
        let running = self.more.running.as_ref().filter(|_| is_on);
        let waiting = running.map_or_else(Vec::new, |running| running.differs_in(&self.spec));
        let trouble = match self.more.trouble() {
            none if none.is_empty() => pools::missed_by(connection, &id)?,
            trouble => trouble,
        };
        Ok(Vm {
            id,
            waits_for_restart: !waiting.is_empty(),
            waiting: waiting.into_iter().map(str::to_owned).collect(),
            is_emulated: self.more.is_emulated && is_on,
            spec: self.spec,
            policy: self.policy,
            folder: self.folder,
            host: self.host.to_string(),
            host_name: self.host_name,
            state: self.state,
            since: at(self.since_ms),
            is_wanted_on: self.is_wanted_on,
            can_adopt: self.more.theirs.is_some(),
            trouble,
            drift: self.more.drift,
            has_cloud_init: self.has_cloud_init,
            user: self.user,
            snapshots: self.snapshots,
            guest: self.more.guest.filter(|_| is_on),
            task: self.task.map(|(id, _)| id),
            made_at: at(self.made_at),
            made_by: self.made_by,
            version: self.version,
            rights: folders::rights_at(roles, &place),
        })
    }
}

pub(super) fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    serde_json::from_str(&row.get::<_, String>(column)?).map_err(unreadable)
}

fn state(row: &Row<'_>, column: &str) -> rusqlite::Result<VmState> {
    // What a later version calls a state is none that is known here.
    Ok(VmState::of(&row.get::<_, String>(column)?).unwrap_or(VmState::Unknown))
}

fn of_row(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let task = match (row.get("task")?, row.get::<_, Option<String>>("task_kind")?) {
        (Some(id), Some(kind)) => TaskKind::of(&kind).map(|kind| (id, kind)),
        _ => None,
    };
    let more: Option<String> = row.get("more")?;
    Ok(Kept {
        id: row.get::<_, String>("id")?.parse().map_err(unreadable)?,
        spec: json(row, "spec")?,
        policy: json(row, "policy")?,
        folder: row.get("folder")?,
        host: HostId(row.get("host")?),
        host_name: row.get("host_name")?,
        is_wanted_on: row.get("is_wanted_on")?,
        described: row.get("described")?,
        has_cloud_init: row.get("has_cloud_init")?,
        user: row.get("user")?,
        snapshots: row.get("snapshots")?,
        seen: state(row, "seen_state")?,
        since_ms: row.get("since")?,
        more: more.map(|more| serde_json::from_str(&more).unwrap_or_default()).unwrap_or_default(),
        state: state(row, "state")?,
        task,
        made_at: row.get("made_at")?,
        made_by: row.get("made_by")?,
        version: row.get("version")?,
    })
}

pub(crate) fn not_there() -> Problem {
    Problem::new(ProblemCode::NotFound, "There is no such virtual machine.")
}

/// One machine, if it is there.
pub(crate) fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Kept>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM {FROM} WHERE vm.id = ?1"))?
        .query_row([id], of_row)
        .optional()
}

/// One machine.
pub(crate) fn one(connection: &Connection, id: &str) -> Result<Kept, Refused> {
    find(connection, id)?.ok_or_else(|| not_there().into())
}

/// All that are on a host.
pub(crate) fn on_host(connection: &Connection, host: HostId) -> rusqlite::Result<Vec<Kept>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM {FROM} WHERE vm.host = ?1 ORDER BY vm.id"))?
        .query_map([host.0], of_row)?
        .collect()
}

/// A part of the list. Whoever may not see everything sees what is in `seen`.
pub(crate) fn list(
    connection: &Connection,
    asked: &Asked,
    query: &VmQuery,
    seen: Option<&[Scope]>,
    roles: &[Held],
) -> rusqlite::Result<Page<Vm>> {
    let mut filters: Vec<(String, Sql)> = Vec::new();
    match query.folder {
        Some(0) => filters.push(("vm.folder IS NULL AND ?".into(), Sql::Integer(1))),
        Some(folder) => filters.push(("vm.folder = ?".into(), Sql::Integer(folder))),
        None => {}
    }
    if let Some(host) = &query.host {
        filters.push(("printf('%016x', vm.host) = ?".into(), Sql::Text(host.clone())));
    }
    if let Some(state) = &query.state {
        filters.push(match counts::condition(state) {
            Some(condition) => (format!("({condition}) AND ?"), Sql::Integer(1)),
            None => (concat!("(", state_in_sql!(), ") = ?").into(), Sql::Text(state.clone())),
        });
    }
    if let Some(seen) = seen {
        let (is_seen, value) = folders::of_vms(connection, seen)?;
        filters.push((is_seen.into(), value));
    }
    let filters: Vec<_> = filters.iter().map(|(filter, value)| (filter.as_str(), value.clone())).collect();
    let page = list::read(connection, &TABLE, asked, &filters, of_row)?;
    let items = page.items.into_iter().map(|vm| vm.shown(connection, roles)).collect::<Result<_, _>>()?;
    Ok(Page { items, next: page.next })
}

pub(super) fn text(value: &impl serde::Serialize) -> String {
    // What is kept of a machine always has a form in JSON.
    serde_json::to_string(value).unwrap_or_default()
}

/// Takes a place for a machine that is to be made. What is taken already for this one stays.
pub(crate) fn add(
    connection: &Connection,
    id: VmId,
    making: &Making,
    host: HostId,
    by: &str,
    now_ms: i64,
) -> Result<Kept, Refused> {
    let (text_id, new) = (id.to_string(), &making.vm);
    if let Some(there) = find(connection, &text_id)? {
        return Ok(there);
    }
    let mut policy = new.policy.clone();
    if policy.owner.is_empty() {
        by.clone_into(&mut policy.owner);
    }
    for volume in &making.volumes {
        volumes::add(connection, volume, host, by, now_ms)?;
        volumes::give_to(connection, &text_id, &new.spec.disks)?;
    }
    let spec = checked(connection, &new.spec, &text_id, host)?;
    check_policy(&policy)?;
    folders::must_be_there(connection, "folder", new.folder)?;
    name_must_be_free(connection, &spec.name, new.folder, &text_id)?;
    let count: i64 = connection.query_row("SELECT count(*) FROM vm", [], |row| row.get(0))?;
    if count >= MOST {
        return Err(Problem::new(ProblemCode::Invalid, format!("There are {MOST} machines already.")).into());
    }
    let told = cloud_init::checked(making.cloud_init.as_ref(), id, &spec)?;
    connection.execute(
        "INSERT INTO vm (id, name, folder, host, spec, policy, cloud_init, is_wanted_on, made_at, made_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9)",
        params![text_id, spec.name, new.folder, host.0, text(&spec), text(&policy), told, now_ms, by],
    )?;
    volumes::give_to(connection, &text_id, &spec.disks)?;
    one(connection, &text_id)
}

/// Changes a machine. What libvirt is to be told anew is told by its host.
pub(crate) fn change(
    connection: &Connection,
    id: &str,
    change: &ChangeVm,
    seen: Version,
) -> Result<Kept, Refused> {
    let before = one(connection, id)?;
    seen.must_be(before.version)?;
    if before.comes_or_goes() {
        return Err(Problem::new(ProblemCode::Conflict, "It is just being made or removed.").into());
    }
    let folder = change.folder.unwrap_or(before.folder);
    folders::must_be_there(connection, "folder", folder)?;
    let spec = match &change.spec {
        Some(spec) => checked(connection, spec, id, before.host)?,
        None => before.spec.clone(),
    };
    if before.has_cloud_init {
        cloud_init::checked(cloud_init::find(connection, id)?.as_ref(), before.id, &spec)?;
    }
    if spec != before.spec && change.spec != before.more.theirs {
        before.must_be_as_described()?;
    }
    disks::check_leaving(connection, &before, &spec)?;
    let policy = change.policy.as_ref().unwrap_or(&before.policy);
    check_policy(policy)?;
    if policy.template != before.policy.template {
        check_template(connection, &before)?;
    }
    name_must_be_free(connection, &spec.name, folder, id)?;
    let described = before.described + u64::from(spec != before.spec);
    connection.execute(
        "UPDATE vm SET name = ?2, folder = ?3, spec = ?4, policy = ?5, described = ?6, version = version + 1
         WHERE id = ?1",
        params![id, spec.name, folder, text(&spec), text(policy), described],
    )?;
    volumes::give_to(connection, id, &disks::held(&spec, before.more.running.as_ref()))?;
    one(connection, id)
}

/// Whether a machine can become a template now, or be none any more.
fn check_template(connection: &Connection, vm: &Kept) -> Result<(), Refused> {
    let wrong = |sentence: &str| {
        let problem = Problem::new(ProblemCode::Conflict, sentence).in_field("policy.template");
        Err(Refused::from(problem))
    };
    if !vm.is_off() || vm.state == VmState::Unknown || vm.task.is_some() {
        return wrong(
            "Only a machine that is off, and with which nothing is being done, becomes a template. Shut it down first.",
        );
    }
    if vm.policy.template && layers::lies_on(connection, &vm.id.to_string())? {
        return wrong(
            "Machines that were cloned from this template share its disks. Clone it instead, or remove them first.",
        );
    }
    Ok(())
}

/// Takes a place for a disk that is to be made for a machine.
pub(crate) fn add_disk(
    connection: &Connection,
    vm: &Kept,
    disk: &NewDisk,
    by: &str,
    now_ms: i64,
) -> Result<ToMake, Refused> {
    vm.must_be_as_described()?;
    let mut spec = vm.spec.clone();
    let new = disks::plan(connection, disk, &mut spec, vm.host, &[], "bytes")?;
    let new = ToMake { disk: spec.disks.pop(), ..new };
    place_disk(connection, vm, &new, by, now_ms)?;
    Ok(new)
}

/// Takes that place, also for another attempt.
pub(crate) fn place_disk(
    connection: &Connection,
    vm: &Kept,
    new: &ToMake,
    by: &str,
    now_ms: i64,
) -> Result<(), Refused> {
    let mut spec = vm.spec.clone();
    spec.disks.extend(new.disk.clone());
    volumes::add(connection, new, vm.host, by, now_ms)?;
    give_disks(connection, vm, &spec)
}

/// Takes a volume that could not be made from the machine it was made for.
pub(crate) fn take_disk(connection: &Connection, vm: &str, volume: &str) -> Result<(), Refused> {
    let Some(vm) = find(connection, vm)? else { return Ok(()) };
    let mut spec = vm.spec.clone();
    spec.disks.retain(|disk| disk.volume != volume);
    if spec.disks.len() < vm.spec.disks.len() { give_disks(connection, &vm, &spec) } else { Ok(()) }
}

/// Gives a machine the disks of a description, and notes that libvirt is to be told.
fn give_disks(connection: &Connection, vm: &Kept, spec: &VmSpec) -> Result<(), Refused> {
    check(spec).map_err(|flaw| invalid(format!("spec.{}", flaw.field), flaw.sentence))?;
    let id = vm.id.to_string();
    volumes::give_to(connection, &id, &disks::held(spec, vm.more.running.as_ref()))?;
    connection.execute(
        "UPDATE vm SET spec = ?2, described = described + 1, version = version + 1 WHERE id = ?1",
        params![id, text(spec)],
    )?;
    Ok(())
}

/// Says which of two descriptions holds: libvirt's is adopted, or ours is told anew.
pub(crate) fn settle(connection: &Connection, id: &str, adopt: bool, seen: Version) -> Result<Kept, Refused> {
    let before = one(connection, id)?;
    seen.must_be(before.version)?;
    if before.more.drift.is_empty() {
        let sentence = "libvirt's description does not differ any more.";
        return Err(Problem::new(ProblemCode::Conflict, sentence).into());
    }
    if !adopt {
        connection
            .execute("UPDATE vm SET described = described + 1, version = version + 1 WHERE id = ?1", [id])?;
        return one(connection, id);
    }
    let Some(theirs) = before.more.theirs else {
        let sentence = "It has something there that cannot be kept here. Restore what is kept here.";
        return Err(Problem::new(ProblemCode::Conflict, sentence).into());
    };
    // Told anew, so that what both leave out is as it is here.
    let change_of = ChangeVm { spec: Some(theirs), ..ChangeVm::default() };
    change(connection, id, &change_of, seen)
}

/// Says whether a machine shall be on.
pub(crate) fn want(connection: &Connection, id: &str, on: bool) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE vm SET is_wanted_on = ?2 WHERE id = ?1 AND is_wanted_on <> ?2")?
        .execute(params![id, on])
        .map(drop)
}

/// Forgets a machine, with the roles that counted on it.
pub(crate) fn forget(connection: &Connection, id: &str, now_ms: i64) -> Result<(), Refused> {
    sighting::forget(connection, id, now_ms)?;
    folders::forget_access(connection, &Scope::Vm(id.to_owned()))?;
    volumes::give_to(connection, id, &[])?;
    snapshots::forget_all(connection, id)?;
    schedules::forget_all(connection, id, now_ms)?;
    connection.execute("DELETE FROM vm WHERE id = ?1", [id])?;
    Ok(())
}

/// How many are on a host.
pub(crate) fn count_on(connection: &Connection, host: HostId) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM vm WHERE host = ?1", [host.0], |row| row.get(0))
}

/// Whether the host that a machine is on does not belong to the cluster any more.
pub(crate) fn has_lost_its_host(connection: &Connection, vm: &Kept) -> rusqlite::Result<bool> {
    Ok(!cluster::kept::is_there(connection, vm.host)?)
}

/// How much memory is spoken for on a host, in MiB.
pub(crate) fn spoken_for(connection: &Connection, host: HostId) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(sum(spec ->> '$.memory.mib'), 0) FROM vm WHERE host = ?1")?
        .query_row([host.0], |row| row.get(0))
}

#[cfg(test)]
pub(crate) mod tests {
    use quantix_api::{NewVm, VmMemory};

    use super::*;
    use crate::cluster::tables;

    pub(crate) const HOST: HostId = HostId(7);

    pub(crate) fn spec(name: &str) -> VmSpec {
        serde_json::from_value(serde_json::json!({ "name": name })).unwrap()
    }

    pub(crate) fn new(name: &str) -> NewVm {
        NewVm::usual(spec(name))
    }

    /// The host has told of its pool.
    pub(crate) fn with_pool(connection: &Connection) {
        connection
            .execute(
                "INSERT INTO pool_seen (pool, host, state, since, trouble, capacity, used)
                 VALUES ('local', ?1, 'ready', 0, '', 1000, 100)",
                [HOST.0],
            )
            .unwrap();
    }

    /// The tables, with a host.
    pub(crate) fn with_host() -> Connection {
        let connection = tables();
        connection
            .execute(
                "INSERT INTO host (id, name, key_hash, joined_at) VALUES (?1, 'qx-1', x'00', 0)",
                [HOST.0],
            )
            .unwrap();
        connection
    }

    pub(crate) fn add_one(connection: &Connection, new: &NewVm) -> Result<Kept, Refused> {
        add(connection, VmId::new(), &Making::plan(connection, new, HOST)?, HOST, "ada", 1000)
    }

    /// One machine among all tables.
    pub(crate) fn machine(name: &str) -> (Connection, String) {
        let connection = with_host();
        let id = add_one(&connection, &new(name)).unwrap().id.to_string();
        (connection, id)
    }

    pub(crate) fn field(done: Result<Kept, Refused>) -> Option<String> {
        match done {
            Err(Refused::Problem(problem)) => problem.field,
            _ => None,
        }
    }

    #[test]
    fn a_machine_is_unknown_while_its_host_is_lost_or_gone() {
        let (connection, id) = machine("web-01");
        let state = || one(&connection, &id).unwrap().state;
        assert_eq!(state(), VmState::Stopped);
        cluster::kept::note_lost(&connection, HOST, Some(1)).unwrap();
        assert_eq!(state(), VmState::Unknown);
        cluster::kept::note_lost(&connection, HOST, None).unwrap();
        assert_eq!(state(), VmState::Stopped);
        assert!(!has_lost_its_host(&connection, &one(&connection, &id).unwrap()).unwrap());
        cluster::kept::remove_host(&connection, HOST).unwrap();
        assert_eq!(state(), VmState::Unknown);
        assert!(has_lost_its_host(&connection, &one(&connection, &id).unwrap()).unwrap());
    }

    #[test]
    fn only_what_libvirt_is_told_is_described_anew() {
        let (connection, id) = machine("web-01");
        let described = |change_of: &ChangeVm| {
            change(&connection, &id, change_of, Version::ANY).map(|vm| vm.described).unwrap()
        };
        let policy = VmPolicy { protected: true, ..VmPolicy::default() };
        assert_eq!(described(&ChangeVm { policy: Some(policy), ..ChangeVm::default() }), 1);
        let memory = VmMemory { mib: 4096, ..VmMemory::default() };
        let bigger = VmSpec { memory, ..spec("web-01") };
        assert_eq!(described(&ChangeVm { spec: Some(bigger.clone()), ..ChangeVm::default() }), 2);
        assert_eq!(described(&ChangeVm { spec: Some(bigger), ..ChangeVm::default() }), 2);
        assert_eq!(spoken_for(&connection, HOST).unwrap(), 4096);
    }

    #[test]
    fn drift_is_settled_only_where_there_is_some() {
        let (connection, id) = machine("web-01");
        assert!(settle(&connection, &id, true, Version::ANY).is_err());
        let theirs = VmSpec { memory: VmMemory { mib: 512, ..VmMemory::default() }, ..spec("web-01") };
        let more = More { drift: vec!["Memory differs.".into()], theirs: Some(theirs), ..More::default() };
        let seen = sighting::Sighting { vm: id.clone(), state: VmState::Stopped, more: more.clone() };
        sighting::take(&connection, HOST, &seen, 1000).unwrap();
        let restored = settle(&connection, &id, false, Version::ANY).unwrap();
        assert_eq!((restored.spec.memory.mib, restored.described), (2048, 2));
        let adopted = settle(&connection, &id, true, Version::ANY).unwrap();
        assert_eq!((adopted.spec.memory.mib, adopted.described), (512, 3));
        let strange = sighting::Sighting { more: More { theirs: None, ..more }, ..seen };
        sighting::take(&connection, HOST, &strange, 1000).unwrap();
        assert!(settle(&connection, &id, true, Version::ANY).is_err());
    }
}
