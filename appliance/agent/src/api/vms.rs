//! Virtual machines: what there are, and what is done with them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use quantix_api::{
    ChangeVm, Keep, ListQuery, NewVm, Page, PowerVm, Problem, ProblemCode, RemoveVm, Right, Scope,
    SettleDrift, Task, TaskKind, Vm, VmAction, VmCounts, VmQuery, VmState,
};
use quantix_compute::{VmId, allowed};
use quantix_store::{HostId, Member};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{
    Agent,
    answer::{Body, Failure, Queried},
    peer::Client,
    person::Person,
};
use crate::{
    audit::Line,
    cluster::Refused,
    events::LOST_AFTER,
    list::Asked,
    sessions::now_ms,
    storage::volumes,
    tasks::{self, NewTask, kinds::of_action},
    version::{Version, tag},
    vms::{
        counts,
        disks::{self, Making, Removing},
        folders,
        kept::{self, Kept, TABLE},
    },
};

/// How long a guest can be given to end.
const WITHIN: std::ops::RangeInclusive<u32> = 5..=3600;

fn invalid(field: &str, sentence: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field)
}

/// The virtual machines.
#[utoipa::path(get, path = "/api/v1/vms", tag = "virtual machines", params(VmQuery), responses((status = 200, body = Page<Vm>)))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Queried(query): Queried<VmQuery>,
) -> Result<Json<Page<Vm>>, Failure> {
    let VmQuery { after, limit, sort, text, .. } = query.clone();
    let asked = Asked::of(&ListQuery { after, limit, sort, text }, &TABLE)?;
    if let Some(state) = &query.state
        && VmState::of(state).is_none()
        && counts::condition(state).is_none()
    {
        let known: Vec<_> = VmState::ALL.into_iter().map(VmState::name).chain(counts::NAMES).collect();
        return Err(invalid("state", format!("A state is one of {}.", known.join(", "))).into());
    }
    let seen = person.sees();
    let list = move |connection: &Connection| {
        kept::list(connection, &asked, &query, seen.as_deref(), &person.info.roles)
    };
    Ok(Json(agent.cluster.read(list).await?))
}

/// How many virtual machines there are.
#[utoipa::path(get, path = "/api/v1/vms/counts", tag = "virtual machines", responses((status = 200, body = VmCounts)))]
pub(crate) async fn counts(
    State(agent): State<Arc<Agent>>,
    person: Person,
) -> Result<Json<VmCounts>, Failure> {
    let seen = person.sees();
    Ok(Json(agent.cluster.read(move |connection| counts::of(connection, seen.as_deref())).await?))
}

/// One virtual machine.
#[utoipa::path(get, path = "/api/v1/vms/{vm}", tag = "virtual machines", params(("vm" = String, Path,)), responses((status = 200, body = Vm)))]
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failure> {
    let show = move |connection: &Connection| as_seen(connection, kept::one(connection, &id)?, &person);
    let vm = agent.found(show).await?;
    Ok((tag(vm.version), Json(vm)))
}

fn as_seen(connection: &Connection, vm: Kept, person: &Person) -> Result<Vm, Refused> {
    Ok(vm.shown(connection, &person.info.roles)?)
}

/// Makes a virtual machine. The task is about it and names its id.
#[utoipa::path(post, path = "/api/v1/vms", tag = "virtual machines", request_body = NewVm, responses((status = 202, body = Task)))]
pub(crate) async fn make(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<NewVm>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let hosts = agent.hosts_for(body.host.as_deref()).await?;
    let (line, make) = making(hosts, client, person, body);
    let task = agent.cluster.write_telling(line, make).await?;
    Ok((StatusCode::ACCEPTED, Json(task.shown())))
}

/// Looks whether a virtual machine can be made as it is made, and makes none.
#[utoipa::path(post, path = "/api/v1/vms/check", tag = "virtual machines", request_body = NewVm, responses((status = 204, description = "It can be made.")))]
pub(crate) async fn check(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<NewVm>,
) -> Result<StatusCode, Failure> {
    let hosts = agent.hosts_for(body.host.as_deref()).await?;
    let (mut line, make) = making(hosts, client, person, body);
    agent.cluster.try_out(move |connection| make(connection, &mut line)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is written to make a machine, and the line of the audit log about it.
fn making(
    hosts: Vec<HostId>,
    client: Client,
    person: Person,
    body: NewVm,
) -> (Line, impl FnOnce(&Connection, &mut Line) -> Result<tasks::kept::Kept, Refused>) {
    let id = VmId::new();
    let line = person.line(client, TaskKind::CreateVm.name(), format!("{} ({id})", body.spec.name));
    let (actor, address) = (person.name().to_owned(), client.to_string());
    let make = move |connection: &Connection, line: &mut Line| {
        person.must_have(Right::ManageVms, folders::place_in(connection, body.folder)?)?;
        for scope in disks::taken_over(None, &body.spec) {
            person.must_have(Right::ManageVms, folders::place(connection, &scope)?)?;
        }
        if body.start && body.policy.template {
            return Err(invalid("start", "A template stays as it is, and is not started.").into());
        }
        let host = emptiest(connection, &body, &hosts)?;
        if !body.spec.pci.is_empty() && body.host.is_none() {
            return Err(invalid("host", "Say on which host it is: it shall have devices of it.").into());
        }
        must_have_devices(&person, &body.spec.pci, &[], host)?;
        let mut making = Making::plan(connection, &body, host)?;
        let vm = kept::add(connection, id, &making, host, &actor, now_ms())?;
        // With the addresses it was given: another attempt makes the same machine.
        making.vm.spec.clone_from(&vm.spec);
        line.is(&vm.spec);
        let mut new = NewTask {
            kind: TaskKind::CreateVm,
            object: vm.scope(),
            object_name: vm.spec.name.clone(),
            host: Some(host),
            params: to_json(&making),
            actor,
            address,
        };
        let task = tasks::kept::add(connection, &new, now_ms())?;
        if body.start {
            (new.kind, new.params) = (TaskKind::StartVm, Value::Null);
            tasks::kept::add_next(connection, &new, now_ms())?;
            kept::want(connection, &id.to_string(), true)?;
        }
        Ok(task)
    };
    (line, make)
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Value {
    // What comes in as JSON has a form in it.
    serde_json::to_value(value).unwrap_or_default()
}

/// Of the hosts where its disks can be, the one with the least memory spoken for; of several, one that has its images.
fn emptiest(connection: &Connection, new: &NewVm, hosts: &[HostId]) -> Result<HostId, Refused> {
    let (mut best, mut why_not) = (None, None);
    for host in hosts {
        match disks::keeps_out(connection, new, *host)? {
            Some(why) => why_not = why_not.or(Some(why)),
            None => {
                let lacks = disks::lacks_images(connection, new, *host)?;
                let candidate = Some((kept::spoken_for(connection, *host)?, lacks, *host));
                best = best.map_or(candidate, |best| candidate.min(Some(best)));
            }
        }
    }
    let nobody =
        || Problem::new(ProblemCode::Unavailable, "No host answers on which it could be.").retry_after(5);
    best.map(|(_, _, host)| host).ok_or_else(|| why_not.unwrap_or_else(nobody).into())
}

/// Changes a virtual machine. What cannot change while it is on counts when it is started the next time.
#[utoipa::path(patch, path = "/api/v1/vms/{vm}", tag = "virtual machines", params(("vm" = String, Path,)), request_body = ChangeVm, responses((status = 200, body = Vm)))]
pub(crate) async fn change(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    seen: Version,
    Body(body): Body<ChangeVm>,
) -> Result<impl IntoResponse, Failure> {
    let line = person.line(client, "change-vm", &id);
    let change = move |connection: &Connection, line: &mut Line| {
        let before = kept::one(connection, &id)?;
        if let Some(folder) = body.folder {
            person.must_have(Right::ManageVms, folders::place_in(connection, folder)?)?;
        }
        for scope in body.spec.iter().flat_map(|spec| disks::taken_over(Some(&before.spec), spec)) {
            person.must_have(Right::ManageVms, folders::place(connection, &scope)?)?;
        }
        if let Some(spec) = &body.spec {
            must_have_devices(&person, &spec.pci, &before.spec.pci, before.host)?;
        }
        line.object = named(&before);
        line.was(&told(&before));
        let changed = kept::change(connection, &id, &body, seen)?;
        line.is(&told(&changed));
        as_seen(connection, changed, &person)
    };
    let vm = agent.cluster.write_telling(line, change).await?;
    Ok((tag(vm.version), Json(vm)))
}

/// Whoever gives a machine a device that it did not have takes it from the host.
fn must_have_devices(
    person: &Person,
    wanted: &[String],
    before: &[String],
    host: HostId,
) -> Result<(), Problem> {
    if wanted.iter().all(|device| before.contains(device)) {
        return Ok(());
    }
    person.must_have(Right::OperateHosts, Scope::Host(host.to_string()))
}

pub(super) fn named(vm: &Kept) -> String {
    format!("{} ({})", vm.spec.name, vm.id)
}

/// What the audit log tells of a machine.
fn told(vm: &Kept) -> Value {
    let mut told = to_json(&vm.spec);
    if let Value::Object(told) = &mut told {
        told.insert("policy".into(), to_json(&vm.policy));
        told.insert("folder".into(), json!(vm.folder));
    }
    told
}

/// Says which holds where libvirt's description differs from what is kept here.
#[utoipa::path(post, path = "/api/v1/vms/{vm}/drift", tag = "virtual machines", params(("vm" = String, Path,)), request_body = SettleDrift, responses((status = 200, body = Vm), (status = 409, description = "They do not differ.")))]
pub(crate) async fn settle_drift(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    seen: Version,
    Body(body): Body<SettleDrift>,
) -> Result<impl IntoResponse, Failure> {
    let adopts = body.keep == Keep::Theirs;
    let line = person.line(client, if adopts { "adopt drift" } else { "restore drift" }, &id);
    let settle = move |connection: &Connection, line: &mut Line| {
        let before = kept::one(connection, &id)?;
        line.object = named(&before);
        line.was(&told(&before));
        let settled = kept::settle(connection, &id, adopts, seen)?;
        line.is(&told(&settled));
        as_seen(connection, settled, &person)
    };
    let vm = agent.cluster.write_telling(line, settle).await?;
    Ok((tag(vm.version), Json(vm)))
}

/// Switches a virtual machine on or off, or does something between the two.
#[utoipa::path(post, path = "/api/v1/vms/{vm}/power", tag = "virtual machines", params(("vm" = String, Path,)), request_body = PowerVm, responses((status = 202, body = Task), (status = 409, description = "It cannot be done in the state it is in.")))]
pub(crate) async fn power(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<PowerVm>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let wanted = match body.action {
        VmAction::Delete => return Err(invalid("action", "To remove a machine is a call of its own.").into()),
        VmAction::Start => Some(true),
        VmAction::ShutDown | VmAction::ForceStop | VmAction::Suspend => Some(false),
        VmAction::Reboot | VmAction::Reset | VmAction::Pause | VmAction::Resume => None,
    };
    if !WITHIN.contains(&body.within) {
        let sentence = format!("A guest is given {} to {} seconds to end.", WITHIN.start(), WITHIN.end());
        return Err(invalid("within", sentence).into());
    }
    let params = match body.action {
        VmAction::ShutDown => json!({ "within": body.within, "force": body.force }),
        VmAction::Start if body.with_console => json!({ "with_console": true }),
        _ => Value::Null,
    };
    let (starts, suspends) = (body.action == VmAction::Start, body.action == VmAction::Suspend);
    let check = move |_: &Connection, vm: &Kept| {
        if suspends && vm.has_devices() {
            let sentence = "What a device of its host holds cannot be kept. Shut it down instead.";
            return Err(Problem::new(ProblemCode::Conflict, sentence).into());
        }
        if suspends {
            vm.must_have_given_back()?;
        }
        if starts {
            vm.must_be_no_template()?;
        }
        Ok(params)
    };
    agent.begin_vm_task(client, &person, id, body.action, wanted, check).await
}

/// Removes a virtual machine.
#[utoipa::path(delete, path = "/api/v1/vms/{vm}", tag = "virtual machines", params(("vm" = String, Path,)), request_body = RemoveVm, responses((status = 202, body = Task), (status = 409, description = "It is on, or protected.")))]
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<RemoveVm>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let check = move |connection: &Connection, vm: &Kept| {
        vm.must_not_be_protected()?;
        if body.name != vm.spec.name {
            let sentence = format!("To remove this machine, type its name: {}.", vm.spec.name);
            return Err(invalid("name", sentence).into());
        }
        if body.keep_disks {
            return Ok(to_json(&Removing::default()));
        }
        let volumes = volumes::of_vm(connection, &vm.id.to_string())?;
        Ok(to_json(&Removing { volumes: volumes.into_iter().map(|volume| volume.shown.id).collect() }))
    };
    agent.begin_vm_task(client, &person, id, VmAction::Delete, Some(false), check).await
}

impl Agent {
    /// Makes a task that does something with a machine, if the state it is in allows that: the task, what is wanted of the
    /// machine and the line of the audit log are one write.
    async fn begin_vm_task(
        &self,
        client: Client,
        person: &Person,
        id: String,
        action: VmAction,
        wanted: Option<bool>,
        check: impl FnOnce(&Connection, &Kept) -> Result<Value, Refused> + Send + 'static,
    ) -> Result<(StatusCode, Json<Task>), Failure> {
        let kind = of_action(action);
        let line = person.line(client, kind.name(), &id);
        let (actor, address) = (person.name().to_owned(), client.to_string());
        let begin = move |connection: &Connection, line: &mut Line| {
            let vm = kept::one(connection, &id)?;
            line.object = named(&vm);
            let params = check(connection, &vm)?;
            // Of a machine whose host is gone for good only its place is left, which whoever leads gives up.
            let is_left_over = kept::has_lost_its_host(connection, &vm)?;
            let new = NewTask {
                kind,
                object: vm.scope(),
                object_name: vm.spec.name.clone(),
                host: (!is_left_over).then_some(vm.host),
                params,
                actor,
                address,
            };
            // Whoever is told what is being done already knows more than that its state does not allow it.
            let task = tasks::kept::add(connection, &new, now_ms())?;
            if !(is_left_over && action == VmAction::Delete) {
                allowed(action, vm.state).map_err(|refused| tasks::kept::conflict(refused.to_string()))?;
            }
            if let Some(wanted) = wanted {
                kept::want(connection, &id, wanted)?;
            }
            Ok(task)
        };
        let task = self.cluster.write_telling(line, begin).await?;
        Ok((StatusCode::ACCEPTED, Json(task.shown())))
    }

    /// The hosts on which a machine or a volume can be made: the one that was named, or all that answer.
    pub(super) async fn hosts_for(&self, named: Option<&str>) -> Result<Vec<HostId>, Problem> {
        if let Some(named) = named {
            let (host, _) = self.host_of(named).await.map_err(|problem| match problem.code {
                ProblemCode::NotFound => invalid("host", problem.detail),
                _ => problem,
            })?;
            return Ok(vec![host]);
        }
        let status = self.cluster.store()?.status();
        let answers = |member: &Member| {
            member.id == status.id || member.silent.is_some_and(|silent| silent < LOST_AFTER)
        };
        Ok(status.members.iter().filter(|member| answers(member)).map(|member| member.id).collect())
    }
}
