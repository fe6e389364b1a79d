//! The cluster: its hosts, who votes, and tokens to join.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use quantix_api::{
    CallError, Cluster, ClusterHost, HostRole, JoinCluster, JoinToken, MadeJoinToken, MoveLead, NewJoinToken,
    Problem, ProblemCode, RemoveHost, Right, Scope, SetVoters, VmQuery, calls,
};
use serde::Deserialize;

use crate::{
    component::{Badge, Fault, Field, Heads, Icon, Level, Post, Standing},
    confirm::Confirm,
    frame::Frame,
    member::{self, Member},
    problem::{Filled, Page, draw},
    reader,
    session::turned_away,
    tasks,
    web::{ClientAddress, Web},
    words,
};

#[derive(Debug, Template)]
#[template(path = "cluster/page.html", blocks = ["state"])]
struct ClusterPage {
    frame: Frame,
    cluster: Cluster,
    tokens: Vec<JoinToken>,
    problem: Option<Problem>,
}

impl ClusterPage {
    fn may_change(&self) -> bool {
        self.frame.manages_cluster() && self.cluster.writable
    }

    fn member<'a>(&'a self, host: &'a ClusterHost) -> Member<'a> {
        Member::new(&self.cluster, host)
    }

    fn is_alone(&self) -> bool {
        self.cluster.hosts.len() < 2
    }

    /// Whether something is about to change by itself.
    fn is_moving(&self) -> bool {
        !self.cluster.writable || Member::all(&self.cluster).any(|member| member.is_joining())
    }

    /// How many hosts vote, and of how many the loss is borne.
    fn voters(&self) -> (usize, String) {
        let (voters, bears) = member::voters(&self.cluster);
        let bears = match bears {
            0 => "none".to_owned(),
            1 => "one".to_owned(),
            more => more.to_string(),
        };
        (voters, bears)
    }

    fn wanted(&self) -> String {
        self.cluster.wanted_voters.map(|wanted| wanted.to_string()).unwrap_or_default()
    }

    fn has_lost_hosts(&self) -> bool {
        Member::all(&self.cluster).any(|member| member.is_lost())
    }

    fn why_not_writable(&self) -> String {
        member::why_not_writable(&self.cluster)
    }

    fn token_state(&self, token: &JoinToken) -> Standing {
        match token {
            JoinToken { revoked: true, .. } => Standing::idle("Taken back"),
            JoinToken { uses_left: 0, .. } => Standing::idle("Used up"),
            token if token.expires_at <= Timestamp::now() => Standing::idle("Expired"),
            token => {
                let left = token.expires_at.duration_since(Timestamp::now()).as_secs();
                let left = words::duration(u64::try_from(left).unwrap_or_default());
                let hosts = if token.uses_left == 1 {
                    "1 host".to_owned()
                } else {
                    format!("{} hosts", token.uses_left)
                };
                Standing::ok(format!("For {hosts}, {left} left"))
            }
        }
    }

    fn can_be_used(&self, token: &JoinToken) -> bool {
        self.token_state(token).level() == Level::Ok
    }

    /// Whether whoever looks may restart this host.
    fn may_operate(&self, host: &ClusterHost) -> bool {
        let on = Scope::Host(host.id.clone());
        self.cluster.writable
            && host.role != HostRole::Joining
            && self.frame.person.may_on(Right::OperateHosts, on)
    }

    fn menu_id(&self, host: &ClusterHost) -> String {
        format!("menu-{}", host.id)
    }

    fn menu_words(&self, host: &ClusterHost) -> String {
        format!("What can be done with {}", host.name)
    }

    /// Where a support bundle of a host is asked for.
    fn bundling(&self, host: &ClusterHost) -> String {
        format!("/cluster/hosts/{}/support-bundle", host.id)
    }

    /// Where a token is taken back.
    fn revoking(&self, token: &JoinToken) -> String {
        format!("/cluster/tokens/{}/revoke", token.id)
    }

    /// How far the data has come.
    fn change(&self) -> String {
        format!("Term {} · change {}", self.cluster.term, self.cluster.applied_index)
    }
}

/// `GET /cluster`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    show(&web, frame, None).await
}

async fn show(web: &Web, frame: Frame, problem: Option<Problem>) -> Response {
    let cluster = match web.agent.call(&calls::cluster().as_session(frame.token())).await {
        Ok(cluster) => cluster,
        Err(error) => return turned_away(&error),
    };
    let mut tokens = Vec::new();
    if frame.manages_cluster() {
        match web.agent.call(&calls::join_tokens().as_session(frame.token())).await {
            Ok(found) => tokens = found.items,
            Err(error) => return turned_away(&error),
        }
    }
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    let page = ClusterPage { frame, cluster, tokens, problem };
    let drawn = if page.frame.block() == Some("state") { draw(&page.as_state()) } else { draw(&page) };
    (status, drawn).into_response()
}

/// Goes back to the cluster's page and says what was done, or shows it with what went wrong.
async fn back(web: &Web, frame: Frame, done: Result<(), CallError>, sentence: &str) -> Response {
    match done {
        Ok(()) => reader::done("/cluster", sentence),
        Err(CallError::Problem(problem)) if problem.code != ProblemCode::SignInNeeded => {
            show(web, frame, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

#[derive(Debug, Template)]
#[template(path = "cluster/add.html")]
struct AddPage {
    frame: Frame,
    purpose: String,
    hours: u32,
    uses: u32,
    problem: Option<Problem>,
}

/// `GET /cluster/add`
pub(crate) async fn add_page(frame: Frame) -> Response {
    draw(&AddPage { frame, purpose: String::new(), hours: 24, uses: 1, problem: None })
}

#[derive(Debug, Template)]
#[template(path = "cluster/made.html")]
struct MadePage {
    frame: Frame,
    made: MadeJoinToken,
}

/// `POST /cluster/tokens`
pub(crate) async fn make_token(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(body): Filled<NewJoinToken>,
) -> Response {
    match web.agent.call(&calls::make_join_token(&body).as_session(frame.token()).for_client(client.0)).await
    {
        Ok(made) => draw(&MadePage { frame, made }),
        Err(CallError::Problem(problem)) if problem.code != ProblemCode::SignInNeeded => {
            let status = problem.code.status();
            let NewJoinToken { purpose, hours, uses } = body;
            (status, draw(&AddPage { frame, purpose, hours, uses, problem: Some(problem) })).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /cluster/tokens/{id}/revoke`
pub(crate) async fn revoke_token(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
) -> Response {
    let Some(id) = plain_id(&id) else { return Page::not_found().into_response() };
    let done =
        web.agent.call(&calls::revoke_join_token(id).as_session(frame.token()).for_client(client.0)).await;
    back(&web, frame, done, "The token lets nobody in any more.").await
}

/// An id as the agent gives them: what a person wrote into the address does not become a part of the agent's.
fn plain_id(id: &str) -> Option<&str> {
    (id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// `POST /cluster/leader`
pub(crate) async fn move_lead(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(body): Filled<MoveLead>,
) -> Response {
    let done = web.agent.call(&calls::move_lead(&body).as_session(frame.token()).for_client(client.0)).await;
    match done {
        Ok(task) => tasks::begun(&task),
        Err(error) => back(&web, frame, Err(error), "").await,
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct VotersForm {
    wanted: String,
}

/// `POST /cluster/voters`
pub(crate) async fn set_voters(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<VotersForm>,
) -> Response {
    // What is no number is none that can be wanted, and the agent says so.
    let wanted = if form.wanted.is_empty() { None } else { Some(form.wanted.parse().unwrap_or_default()) };
    let call = calls::set_voters(&SetVoters { wanted }).as_session(frame.token()).for_client(client.0);
    let done = web.agent.call(&call).await;
    back(&web, frame, done, "Saved. Votes are given and taken one after the other.").await
}

#[derive(Debug, Template)]
#[template(path = "cluster/join.html")]
struct JoinPage {
    frame: Frame,
    address: String,
    problem: Option<Problem>,
}

/// `GET /cluster/join`
pub(crate) async fn join_page(frame: Frame) -> Response {
    draw(&JoinPage { frame, address: String::new(), problem: None })
}

#[derive(Debug, Template)]
#[template(path = "cluster/starting.html")]
pub(crate) struct StartingPage {
    pub(crate) title: &'static str,
    pub(crate) sentence: &'static str,
}

/// `POST /cluster/join`
pub(crate) async fn join(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(body): Filled<JoinCluster>,
) -> Response {
    match web.agent.call(&calls::join(&body).as_session(frame.token()).for_client(client.0)).await {
        Ok(()) => draw(&StartingPage {
            title: "This host joins",
            sentence: "It starts again as a member and gets the cluster’s data. Then sign in with a password of the cluster.",
        }),
        Err(CallError::Problem(problem)) if problem.code != ProblemCode::SignInNeeded => {
            let status = problem.code.status();
            (status, draw(&JoinPage { frame, address: body.address, problem: Some(problem) })).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// What is typed to go on.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfirmForm {
    name: String,
}

/// `GET /cluster/hosts/{id}/remove`
pub(crate) async fn remove_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    confirm_removal(&web, frame, &id, None).await
}

async fn confirm_removal(web: &Web, frame: Frame, id: &str, problem: Option<Problem>) -> Response {
    let cluster = match web.agent.call(&calls::cluster().as_session(frame.token())).await {
        Ok(cluster) => cluster,
        Err(error) => return turned_away(&error),
    };
    let Some(host) = cluster.hosts.into_iter().find(|host| host.id == id) else {
        return Page::not_found().into_response();
    };
    let query = VmQuery { host: Some(id.to_owned()), limit: Some(1000), ..VmQuery::default() };
    let machines = web.agent.call(&calls::vms(&query).as_session(frame.token())).await;
    let machines = machines.map_or(0, |found| found.items.len());
    let lost = (machines > 0).then(|| {
        format!("{machines} of the virtual machines are on it: they are lost with it, and only their places stay here.")
    });
    let mut sentences: Vec<_> = lost.into_iter().collect();
    sentences.extend([
        "It loses its key at once: no other host talks to it any more.".to_owned(),
        "Do this with a host that is gone for good. One that answers can leave by itself, on its own page."
            .to_owned(),
        "It can come back only as a new host, with a join token.".to_owned(),
    ]);
    let page = Confirm {
        back: "/cluster".to_owned(),
        choice: None,
        title: format!("Remove {} from the cluster", host.name),
        action: format!("/cluster/hosts/{id}/remove"),
        sentences,
        name: host.name,
        button: "Remove this host",
        problem,
        frame,
    };
    page.answer()
}

/// `POST /cluster/hosts/{id}/remove`
pub(crate) async fn remove(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<ConfirmForm>,
) -> Response {
    let Some(id) = plain_id(&id) else { return Page::not_found().into_response() };
    let body = RemoveHost { name: form.name.trim().to_owned() };
    match web.agent.call(&calls::remove_host(id, &body).as_session(frame.token()).for_client(client.0)).await
    {
        Ok(task) => tasks::begun(&task),
        Err(CallError::Problem(problem)) if problem.code != ProblemCode::SignInNeeded => {
            confirm_removal(&web, frame, id, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /cluster/recover`
pub(crate) async fn recover_page(State(web): State<Web>, frame: Frame) -> Response {
    confirm_recovery(&web, frame, None).await
}

async fn confirm_recovery(web: &Web, frame: Frame, problem: Option<Problem>) -> Response {
    let cluster = match web.agent.call(&calls::cluster().as_session(frame.token())).await {
        Ok(cluster) => cluster,
        Err(error) => return turned_away(&error),
    };
    let name = cluster.this_name().to_owned();
    let page = Confirm {
        back: "/cluster".to_owned(),
        choice: None,
        title: format!("Go on with {name} alone"),
        action: "/cluster/recover".to_owned(),
        sentences: vec![
            "Only do this when the other hosts will never come back: starting one of them is always better."
                .to_owned(),
            "Changes that only they had are lost. Choose the host that has the latest change.".to_owned(),
            "Any of them that does come back is refused; reset it and let it join again.".to_owned(),
        ],
        name,
        button: "Go on alone",
        problem,
        frame,
    };
    page.answer()
}

/// `POST /cluster/recover`
pub(crate) async fn recover(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<ConfirmForm>,
) -> Response {
    let body = RemoveHost { name: form.name.trim().to_owned() };
    match web.agent.call(&calls::recover(&body).as_session(frame.token()).for_client(client.0)).await {
        Ok(()) => draw(&StartingPage {
            title: "This host goes on alone",
            sentence: "It starts again with all the data it has. Then sign in as before.",
        }),
        Err(CallError::Problem(problem)) if problem.code != ProblemCode::SignInNeeded => {
            confirm_recovery(&web, frame, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /cluster/leave`
pub(crate) async fn leave_page(State(web): State<Web>, frame: Frame) -> Response {
    confirm_leaving(&web, frame, None).await
}

async fn confirm_leaving(web: &Web, frame: Frame, problem: Option<Problem>) -> Response {
    let cluster = match web.agent.call(&calls::cluster().as_session(frame.token())).await {
        Ok(cluster) => cluster,
        Err(error) => return turned_away(&error),
    };
    let name = cluster.this_name().to_owned();
    let page = Confirm {
        back: "/cluster".to_owned(),
        choice: None,
        title: format!("Let {name} leave the cluster"),
        action: "/cluster/leave".to_owned(),
        sentences: vec![
            "It becomes a cluster of its own, with nothing of this cluster’s data, and a new first password on its screen."
                .to_owned(),
            "If it has the vDC role, another host takes it first.".to_owned(),
        ],
        name,
        button: "Leave the cluster",
        problem,
        frame,
    };
    page.answer()
}

/// `POST /cluster/leave`
pub(crate) async fn leave(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<ConfirmForm>,
) -> Response {
    let cluster = match web.agent.call(&calls::cluster().as_session(frame.token())).await {
        Ok(cluster) => cluster,
        Err(error) => return turned_away(&error),
    };
    if cluster.this_name() != form.name.trim() {
        let problem =
            Problem::new(ProblemCode::Invalid, "This is not the name of this host.").in_field("name");
        return confirm_leaving(&web, frame, Some(problem)).await;
    }
    match web.agent.call(&calls::leave().as_session(frame.token()).for_client(client.0)).await {
        Ok(()) => draw(&StartingPage {
            title: "This host has left",
            sentence: "It starts again as a cluster of its own. Its first password is on its screen.",
        }),
        Err(CallError::Problem(problem)) if problem.code != ProblemCode::SignInNeeded => {
            confirm_leaving(&web, frame, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
