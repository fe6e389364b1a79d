//! The cluster: its hosts, tokens to join it, and who has the vDC role.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::Timestamp;
use quantix_api::{
    Cluster, ClusterHost, HostFacts, HostRole, JoinCluster, JoinToken, MadeJoinToken, MoveLead, NewJoinToken,
    Page, Problem, ProblemCode, RemoveHost, Right, Scope, Secret, SetVoters, Task, TaskKind, calls,
};
use quantix_store::{HostId, Role, Status};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::{Client, Token},
    person::Person,
};
use crate::{
    cluster::{Contact, FromHost, JoinToken as NewToken, fingerprint, kept},
    text,
};

const MOST_HOURS: u32 = 24 * 365;
const MOST_USES: u32 = 1000;
const LONGEST_PURPOSE: usize = 200;

impl Agent {
    pub(super) async fn host_of(&self, id: &str) -> Result<(HostId, String), Problem> {
        let unknown = || Problem::new(ProblemCode::NotFound, "The cluster has no such host.");
        let id = u64::from_str_radix(id, 16).map(HostId).map_err(|_| unknown())?;
        let hosts = self.cluster.read(kept::hosts).await?;
        let name = hosts.into_iter().find(|host| host.id == id).map(|host| host.name);
        let is_member = self.cluster.store()?.status().members.iter().any(|member| member.id == id);
        if name.is_none() && !is_member {
            return Err(unknown());
        }
        Ok((id, name.unwrap_or_else(|| id.to_string())))
    }

    /// What another host alone knows, asked of it as the same person: what stands behind its address among the hosts.
    pub(super) async fn ask_host<T: DeserializeOwned>(
        &self,
        (host, name): (HostId, String),
        what: &str,
        token: &str,
    ) -> Result<T, Problem> {
        let contact = self.cluster.other_member(host);
        let contact = contact
            .ok_or_else(|| Problem::new(ProblemCode::Unavailable, format!("{name} does not answer now.")))?;
        self.cluster.fetch(&contact, &format!("{}/{host}/{what}", calls::HOSTS_PATH), token).await
    }
}

/// The cluster: as the leader sees it, who alone hears everybody; as this host does, if there is none.
#[utoipa::path(get, path = "/api/v1/cluster", tag = "cluster", responses((status = 200, body = Cluster)))]
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    from_host: Option<Extension<FromHost>>,
    person: Person,
    Token(token): Token,
) -> Result<Json<Cluster>, Failure> {
    let store = agent.cluster.store()?;
    // What is in the data here may be less than what the leader has; whoever reads on reads it here.
    let (here, applied_index) = (store.id().to_string(), store.applied());
    if from_host.is_none()
        && let Some(leader) = agent.cluster.other_leader()
        && let Ok(cluster) = agent.cluster.fetch::<Cluster>(&leader, calls::CLUSTER_PATH, &token).await
    {
        return Ok(Json(Cluster { this_host: here, applied_index, ..cluster }));
    }
    let (hosts, cluster) =
        agent.cluster.read(|connection| Ok((kept::hosts(connection)?, kept::cluster(connection)?))).await?;
    let (authority, wanted_voters) = cluster.unwrap_or_default();
    let status = agent.cluster.store()?.status();
    Ok(Json(Cluster {
        this_host: status.id.to_string(),
        leader: status.leader.map(|leader| leader.to_string()),
        term: status.term,
        last_index: status.last,
        applied_index: status.applied,
        schema: status.schema,
        writable: status.writable,
        wanted_voters,
        fingerprint: fingerprint(&authority).unwrap_or_default(),
        hosts: described(&status, hosts)
            .into_iter()
            .filter(|host| person.info.may_on(Right::See, Scope::Host(host.id.clone())))
            .collect(),
        trouble: status.trouble,
    }))
}

/// All hosts by name: the members, and those that were let in and have not come yet.
fn described(status: &Status, kept: Vec<kept::KeptHost>) -> Vec<ClusterHost> {
    let mut known: HashMap<_, _> = kept.into_iter().map(|host| (host.id, host)).collect();
    let joined = |at: i64| Timestamp::from_second(at).ok();
    let mut hosts: Vec<_> = status
        .members
        .iter()
        .map(|member| {
            let kept = known.remove(&member.id);
            ClusterHost {
                id: member.id.to_string(),
                name: kept.as_ref().map_or_else(|| member.id.to_string(), |kept| kept.name.clone()),
                address: member.address.to_string(),
                role: match member.role {
                    Role::Leader => HostRole::Leader,
                    Role::Voter => HostRole::Voter,
                    Role::Learner => HostRole::Learner,
                },
                lag: member.matched.map(|matched| status.last.saturating_sub(matched)),
                last_contact_ms: member.silent.and_then(|silent| u64::try_from(silent.as_millis()).ok()),
                joined_at: kept.and_then(|kept| joined(kept.joined_at)),
            }
        })
        .collect();
    hosts.extend(known.into_values().map(|kept| ClusterHost {
        id: kept.id.to_string(),
        name: kept.name,
        address: String::new(),
        role: HostRole::Joining,
        lag: None,
        last_contact_ms: None,
        joined_at: joined(kept.joined_at),
    }));
    hosts.sort_by(|one, other| one.name.cmp(&other.name));
    hosts
}

/// What a host of the cluster is made of, asked of that host itself.
#[utoipa::path(get, path = "/api/v1/cluster/hosts/{host}/facts", tag = "host", params(("host" = String, Path)), responses((status = 200, body = HostFacts)))]
pub(crate) async fn facts_of(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Token(token): Token,
    Path(id): Path<String>,
) -> Result<Json<HostFacts>, Failure> {
    let (host, name) = agent.host_of(&id).await?;
    person.must_have(Right::See, Scope::Host(host.to_string()))?;
    let status = agent.cluster.store()?.status();
    if host == status.id {
        return Ok(Json((*agent.host.facts().await).clone()));
    }
    let Some(member) = status.members.into_iter().find(|member| member.id == host) else {
        let problem = Problem::new(ProblemCode::Unavailable, format!("{name} has not come yet."));
        return Err(Failure(problem));
    };
    let contact = Contact { host, address: member.address.0 };
    Ok(Json(agent.cluster.fetch(&contact, calls::HOST_PATH, &token).await?))
}

/// The join tokens, the newest first.
#[utoipa::path(get, path = "/api/v1/cluster/tokens", tag = "cluster", responses((status = 200, body = Page<JoinToken>)))]
pub(crate) async fn tokens(State(agent): State<Arc<Agent>>) -> Result<Json<Page<JoinToken>>, Failure> {
    let tokens = agent.cluster.read(kept::tokens).await?;
    Ok(Json(Page::whole(tokens.into_iter().map(token_shown).collect())))
}

fn token_shown(kept: kept::KeptToken) -> JoinToken {
    let time = |at: i64| Timestamp::from_second(at).unwrap_or_default();
    JoinToken {
        id: hex(&kept.id),
        purpose: kept.purpose,
        made_by: kept.made_by,
        made_at: time(kept.made_at),
        expires_at: time(kept.expires_at),
        uses_left: kept.uses_left,
        revoked: kept.revoked,
        used_by: kept.used_by,
    }
}

/// Makes a join token. It is shown this once.
#[utoipa::path(post, path = "/api/v1/cluster/tokens", tag = "cluster", request_body = NewJoinToken, responses((status = 201, body = MadeJoinToken)))]
pub(crate) async fn make_token(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<NewJoinToken>,
) -> Result<(StatusCode, Json<MadeJoinToken>), Failure> {
    let purpose = body.purpose.trim().to_owned();
    let wrong = |field: &str, sentence: String| Problem::new(ProblemCode::Invalid, sentence).in_field(field);
    if purpose.is_empty() || !text::is_line(&purpose, LONGEST_PURPOSE) {
        let sentence =
            format!("Say in a few words what the token is for, at most {LONGEST_PURPOSE} characters.");
        return Err(wrong("purpose", sentence).into());
    }
    if !(1..=MOST_HOURS).contains(&body.hours) {
        return Err(wrong("hours", format!("A token can be used for 1 to {MOST_HOURS} hours.")).into());
    }
    if !(1..=MOST_USES).contains(&body.uses) {
        return Err(wrong("uses", format!("A token can be used for 1 to {MOST_USES} hosts.")).into());
    }
    let token = NewToken::new().ok_or_else(crate::sessions::no_randomness)?;
    let kept = token.kept();
    let line = person.line(client, "make join token", purpose.clone());
    let (made_at, made_by) = (line.at, line.actor.clone());
    let expires_at = made_at + u64::from(body.hours) * 3600;
    let id = kept.id;
    let keep = move |connection: &rusqlite::Connection| {
        kept::keep_token(connection, &kept, &purpose, &made_by, made_at, expires_at, body.uses)?;
        let made = kept::tokens(connection)?.into_iter().find(|made| made.id == id);
        let authority = kept::cluster(connection)?.map(|(authority, _)| authority);
        Ok((made, authority.unwrap_or_default()))
    };
    let (made, authority) = agent.cluster.write_noted(line, keep).await?;
    let made = made.ok_or_else(|| Problem::new(ProblemCode::Internal, "The token was not kept."))?;
    let made = MadeJoinToken {
        token: Secret::new(token.shown()),
        fingerprint: fingerprint(&authority).unwrap_or_default(),
        address: agent.own_address().await,
        kept: token_shown(made),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Takes a join token back.
#[utoipa::path(delete, path = "/api/v1/cluster/tokens/{id}", tag = "cluster", params(("id" = String, Path,)), responses((status = 204)))]
pub(crate) async fn revoke_token(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "revoke join token", id.chars().take(16).collect::<String>());
    let id = unhex(&id).ok_or_else(|| Problem::new(ProblemCode::NotFound, "There is no such join token."))?;
    agent.cluster.write_noted(line, move |connection| kept::revoke_token(connection, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// This host joins the cluster of another. Its password goes with its data, so nobody has to choose one before.
#[utoipa::path(post, path = "/api/v1/cluster/join", tag = "cluster", request_body = JoinCluster, responses((status = 202)))]
pub(crate) async fn join(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Body(body): Body<JoinCluster>,
) -> Result<StatusCode, Failure> {
    person.must_have(Right::ManageCluster, Scope::Datacenter)?;
    agent.cluster.join(&body, &agent.name).await?;
    Ok(StatusCode::ACCEPTED)
}

/// This host leaves its cluster. If it was removed already, it only forgets.
#[utoipa::path(post, path = "/api/v1/cluster/leave", tag = "cluster", responses((status = 202)))]
pub(crate) async fn leave(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "leave", agent.name.clone());
    agent.cluster.leave(line).await?;
    Ok(StatusCode::ACCEPTED)
}

/// This host goes on without the others, when too few are left.
#[utoipa::path(post, path = "/api/v1/cluster/recover", tag = "cluster", request_body = RemoveHost, responses((status = 202)))]
pub(crate) async fn recover(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<RemoveHost>,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "go on alone", agent.name.clone());
    if body.name != agent.name {
        let sentence = format!("To go on without the other hosts, type this host's name: {}.", agent.name);
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("name").into());
    }
    agent.cluster.go_on_alone(&line).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Gives the vDC role to a host.
#[utoipa::path(put, path = "/api/v1/cluster/leader", tag = "cluster", request_body = MoveLead, responses((status = 202, body = Task), (status = 409, description = "It is being moved already.")))]
pub(crate) async fn move_lead(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<MoveLead>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let (host, name) = agent.host_of(&body.host).await?;
    agent.begin_task(client, &person, TaskKind::MoveVdcRole, host, name, Value::Null, |_| Ok(())).await
}

/// Says how many hosts shall vote.
#[utoipa::path(put, path = "/api/v1/cluster/voters", tag = "cluster", request_body = SetVoters, responses((status = 204)))]
pub(crate) async fn set_voters(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<SetVoters>,
) -> Result<StatusCode, Failure> {
    if !matches!(body.wanted, None | Some(1 | 3 | 5)) {
        let sentence =
            "One, three or five hosts vote; an even number bears no more losses than the odd one below it.";
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("wanted").into());
    }
    let wanted = body.wanted.map_or_else(|| "as many as fit".to_owned(), |wanted| wanted.to_string());
    let line = person.line(client, "set voters", wanted);
    let set = move |connection: &rusqlite::Connection| kept::set_wanted_voters(connection, body.wanted);
    agent.cluster.write_noted(line, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a host out of the cluster. It loses its key at once, and then its place.
#[utoipa::path(delete, path = "/api/v1/cluster/hosts/{host}", tag = "cluster", params(("host" = String, Path,)), request_body = RemoveHost, responses((status = 202, body = Task), (status = 409, description = "It is being removed already.")))]
pub(crate) async fn remove_host(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(host): Path<String>,
    Body(body): Body<RemoveHost>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let (host, name) = agent.host_of(&host).await?;
    if body.name != name {
        let sentence = format!("To remove this host, type its name: {name}.");
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("name").into());
    }
    agent.cluster.must_not_lead(host)?;
    let revoke = move |connection: &rusqlite::Connection| kept::remove_host(connection, host);
    agent.begin_task(client, &person, TaskKind::RemoveHost, host, name, Value::Null, revoke).await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 8]> {
    (text.len() == 16).then_some(())?;
    u64::from_str_radix(text, 16).ok().map(u64::to_be_bytes)
}
