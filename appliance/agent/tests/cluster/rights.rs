//! Who may do what: every route of the API's own document, asked by everybody.

use std::fmt::Write as _;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use quantix_api::{
    ListQuery, NewAccess, NewApiToken, NewRole, NewUser, Problem, ProblemCode, ProvePassword, Right, Scope,
    SecondFactorCode, Secret, SignIn, Who, calls,
};
use serde_json::Value;
use totp_rs::Builder;

use crate::hosts::{Host, PASSWORD, cluster_of};

/// Who is let through to what a route does: the table that people read, and that a change has to be seen in.
const TABLE: &str = include_str!("rights.txt");

struct Route {
    method: String,
    path: String,
    needs: String,
}

/// Every route of the document.
async fn routes(host: &Host) -> Vec<Route> {
    let request = axum::http::Request::get("/api/v1/openapi.json").body(Full::new(Bytes::new())).unwrap();
    let answer = host.client().begin(request).await.unwrap();
    let document: Value =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let needs = operation["x-right"].as_str().unwrap().to_owned();
            routes.push(Route { method: method.to_uppercase(), path: path.clone(), needs });
        }
    }
    routes
}

/// Somebody who asks.
struct Asker {
    name: &'static str,
    token: Option<Secret>,
    /// What they may do everywhere.
    rights: Vec<Right>,
    /// What they may see or do on one host that is not there.
    on_one_host: bool,
    is_program: bool,
    waits_for: Option<ProblemCode>,
}

impl Asker {
    fn new(name: &'static str, token: Secret, rights: &[Right]) -> Self {
        let (rights, token) = (rights.to_vec(), Some(token));
        Self { name, token, rights, on_one_host: false, is_program: false, waits_for: None }
    }

    /// What this test thinks they may do, by rules of its own.
    fn may(&self, route: &Route) -> bool {
        if self.token.as_ref().is_none_or(|token| token.expose().chars().all(|letter| letter == '0')) {
            return route.needs == "nothing";
        }
        let has = |right: &Right| self.rights.contains(right);
        match (route.needs.as_str(), self.waits_for) {
            ("nothing" | "begun-session", _) => true,
            ("session", Some(ProblemCode::PasswordChangeNeeded)) => true,
            (_, Some(_)) => false,
            ("session" | "person", None) => !self.is_program,
            ("signed-in", None) => true,
            ("see", None) => {
                let is_of_machines = ["{vm}", "{volume}"].iter().any(|part| route.path.contains(part));
                has(&Right::See) || (self.on_one_host && !is_of_machines)
            }
            (right, None) => has(&right.parse().unwrap_or_else(|_| panic!("{right} is no right"))),
        }
    }
}

/// What is asked for does no harm when it is let through: nothing of this name is there, and no body is one.
async fn ask(host: &Host, route: &Route, asker: &Asker) -> (u16, Option<Problem>) {
    let path = route.path.replace("{host}", "0123456789abcdef").replace("{id}", "12345");
    let path = path.replace("{vm}", "019acd00-0000-7000-8000-00000000000a").replace("{folder}", "12345");
    let path = path.replace("{volume}", "019acd00-0000-7000-8000-00000000000b").replace("{pool}", "nowhere");
    let path = path.replace("{image}", "019acd00-0000-7000-8000-00000000000c");
    let path = path.replace("{snapshot}", "019acd00-0000-7000-8000-00000000000d");
    let path = path.replace("{schedule}", "019acd00-0000-7000-8000-00000000000e");
    let path = path.replace("{name}", "nobody").replace("{user}", "nobody").replace("{ticket}", "none");
    assert!(!path.contains('{'), "{path}: say what stands for this");
    let kind =
        if path == calls::RESTORE_PATH { "multipart/form-data; boundary=line" } else { "application/json" };
    let mut request =
        axum::http::Request::builder().method(route.method.as_str()).uri(path).header("content-type", kind);
    if let Some(token) = &asker.token {
        request = request.header("authorization", format!("Bearer {}", token.expose()));
    }
    let body = if kind == "application/json" { "[\"hello\"]" } else { "--line--\r\n" };
    let answer = host.client().begin(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    if status == 200 && route.path == calls::CHANGES_PATH {
        // This one has no end.
        return (status, None);
    }
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).ok())
}

async fn sign_in(host: &Host, name: &str, password: &Secret) -> Secret {
    let body = SignIn { username: name.into(), password: password.clone() };
    host.client().call(&calls::sign_in(&body)).await.unwrap().token
}

async fn new_user(host: &Host, admin: &Secret, name: &str, role: &str) -> Secret {
    let new = NewUser { username: name.into(), role: role.into() };
    host.client().call(&calls::make_user(&new).as_session(admin)).await.unwrap().password
}

async fn program(host: &Host, owner: &Secret, role: &str) -> Secret {
    let new = NewApiToken { purpose: "a test".into(), role: role.into(), scope: Scope::Datacenter, days: 1 };
    host.client().call(&calls::make_token(&new).as_session(owner)).await.unwrap().token
}

/// Sets up a second factor; gives its secret.
async fn second_factor(host: &Host, session: &Secret) -> totp_rs::Totp {
    let proof = ProvePassword { password: Secret::new(PASSWORD) };
    let made = host.client().call(&calls::begin_second_factor(&proof).as_session(session)).await.unwrap();
    let shared = totp_rs::Secret::try_from_base32(made.secret.expose()).unwrap();
    let totp = Builder::new().with_secret(shared).with_account_name("x").build().unwrap();
    let code = SecondFactorCode { code: Secret::new(totp.generate_current().to_string()) };
    let codes = host.client().call(&calls::confirm_second_factor(&code).as_session(session)).await.unwrap();
    assert_eq!(codes.codes.len(), 10);
    totp
}

/// Everybody there is: each built-in role, a role of each right alone, programs, and those who have something to do
/// first.
async fn everybody(host: &Host, admin: &Secret) -> Vec<Asker> {
    let operator = [Right::See, Right::SeeActivity, Right::OperateHosts, Right::OperateVms];
    let mut all = vec![
        Asker { token: None, ..Asker::new("nobody", Secret::new(""), &[]) },
        Asker::new("somebody who guesses", Secret::new("0".repeat(64)), &[]),
        Asker::new("the first administrator", admin.clone(), &Right::ALL),
        Asker::new("an administrator", host.somebody(admin, "ben", "administrator").await, &Right::ALL),
        Asker::new("an operator", host.somebody(admin, "olga", "operator").await, &operator),
    ];
    let viewer = host.somebody(admin, "ada", "viewer").await;
    let (viewers_program, admins_program) =
        (program(host, &viewer, "administrator").await, program(host, admin, "administrator").await);
    all.push(Asker::new("a viewer", viewer, &[Right::See]));
    all.push(Asker { is_program: true, ..Asker::new("a viewer's program", viewers_program, &[Right::See]) });
    all.push(Asker {
        is_program: true,
        ..Asker::new("an administrator's program", admins_program, &Right::ALL)
    });
    let narrow = program(host, admin, "viewer").await;
    all.push(Asker { is_program: true, ..Asker::new("a program that looks", narrow, &[Right::See]) });
    for right in Right::ALL {
        let name = right.name();
        let role = NewRole { name: format!("only-{name}"), purpose: String::new(), rights: [right].into() };
        host.client().call(&calls::make_role(&role).as_session(admin)).await.unwrap();
        all.push(Asker::new(name, host.somebody(admin, name, &role.name).await, &[right]));
    }
    let first = new_user(host, admin, "newcomer", "administrator").await;
    let newcomer = sign_in(host, "newcomer", &first).await;
    let waits_for = Some(ProblemCode::PasswordChangeNeeded);
    all.push(Asker { waits_for, ..Asker::new("a new administrator", newcomer, &Right::ALL) });
    let careful = host.somebody(admin, "careful", "administrator").await;
    second_factor(host, &careful).await;
    let waiting = sign_in(host, "careful", &Secret::new(PASSWORD)).await;
    all.push(Asker {
        waits_for: Some(ProblemCode::CodeNeeded),
        ..Asker::new("an administrator without the code", waiting, &Right::ALL)
    });
    all.push(Asker::new("an administrator with a second factor", careful, &Right::ALL));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_do_what_they_may_and_nothing_else() {
    let host = Host::start("qx-0");
    let admin = host.settled().await;
    let everybody = everybody(&host, &admin).await;
    let routes = routes(&host).await;
    let mut table = String::new();
    for route in &routes {
        writeln!(table, "{:<7}{:<50}{}", route.method, route.path, route.needs).unwrap();
    }
    assert!(table == TABLE, "rights.txt and the document differ; the document says:\n{table}");
    for route in &routes {
        // What ends the sessions of whoever asks has a test of its own; the screen at the machine is root's.
        if ["/api/v1/console", "/api/v1/session", "/api/v1/sessions"].contains(&route.path.as_str())
            && route.method != "GET"
        {
            continue;
        }
        for asker in &everybody {
            let (status, problem) = loop {
                let (status, problem) = ask(&host, route, asker).await;
                match &problem {
                    // Strangers may only ask so much.
                    Some(problem) if problem.code == ProblemCode::TooManyAttempts => {
                        let wait = problem.retry_after_seconds.unwrap_or(1);
                        tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
                    }
                    _ => break (status, problem),
                }
            };
            let code = problem.map(|problem| problem.code);
            let refused = matches!(
                code,
                Some(
                    ProblemCode::SignInNeeded
                        | ProblemCode::Forbidden
                        | ProblemCode::CodeNeeded
                        | ProblemCode::PasswordChangeNeeded
                )
            );
            let said =
                format!("{}: {} {} was answered {status} {code:?}", asker.name, route.method, route.path);
            // A handler may refuse what the section lets through; nothing else may be let through.
            let is_let_through = !refused || (asker.may(route) && is_refused_inside(route, asker));
            assert_eq!(is_let_through, asker.may(route), "{said}");
            if !asker.may(route) {
                let expected = match (&asker.token, asker.waits_for) {
                    _ if asker.name == "nobody" || asker.name == "somebody who guesses" => {
                        ProblemCode::SignInNeeded
                    }
                    (_, Some(waits_for)) if !(asker.is_program) => waits_for,
                    _ => ProblemCode::Forbidden,
                };
                assert_eq!(code, Some(expected), "{said}");
            }
            // Without libvirt and the rest the host itself is not ready.
            assert!(status < 500 || route.path == calls::READY_PATH, "{said}");
        }
    }
}

/// What depends on more than the section knows.
fn is_refused_inside(route: &Route, asker: &Asker) -> bool {
    match route.path.as_str() {
        // Who may manage the cluster.
        "/api/v1/cluster/join" => !asker.rights.contains(&Right::ManageCluster),
        // Root on the machine itself.
        "/api/v1/console" => true,
        // A host that leads alone cannot leave.
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reaches_what_is_anothers() {
    let host = Host::start("qx-0");
    let admin = host.settled().await;
    let (ada, ben) =
        (host.somebody(&admin, "ada", "viewer").await, host.somebody(&admin, "ben", "viewer").await);
    let client = host.client();
    program(&host, &ada, "viewer").await;
    let of_ada = client.call(&calls::tokens().as_session(&ada)).await.unwrap().items;
    let sessions_of_ada = client.call(&calls::sessions().as_session(&ada)).await.unwrap().items;
    assert!(client.call(&calls::revoke_token(&of_ada[0].id).as_session(&ben)).await.is_err());
    assert!(client.call(&calls::end_session(&sessions_of_ada[0].id).as_session(&ben)).await.is_err());
    assert!(client.call(&calls::tokens().as_session(&ben)).await.unwrap().items.is_empty());
    assert!(client.call(&calls::users(&ListQuery::default()).as_session(&ben)).await.is_err());
    assert_eq!(client.call(&calls::tokens().as_session(&ada)).await.unwrap().items, of_ada);
    // Ending one's own works, and ends just that one.
    let other = sign_in(&host, "ada", &Secret::new(PASSWORD)).await;
    client.call(&calls::end_other_sessions().as_session(&other)).await.unwrap();
    assert!(client.call(&calls::session().as_session(&ada)).await.is_err());
    assert!(client.call(&calls::session().as_session(&other)).await.is_ok());
    client.call(&calls::sign_out().as_session(&other)).await.unwrap();
    assert!(client.call(&calls::session().as_session(&other)).await.is_err());
    assert!(client.call(&calls::session().as_session(&ben)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_is_asked_for_and_a_recovery_code_stands_in_for_it() {
    let host = Host::start("qx-0");
    let admin = host.settled().await;
    let client = host.client();
    let ada = host.somebody(&admin, "ada", "viewer").await;
    let totp = second_factor(&host, &ada).await;
    let proof = ProvePassword { password: Secret::new(PASSWORD) };
    let codes = client.call(&calls::make_recovery_codes(&proof).as_session(&ada)).await.unwrap().codes;
    let give = async |session: &Secret, code: &str| {
        client
            .call(&calls::give_code(&SecondFactorCode { code: Secret::new(code) }).as_session(session))
            .await
    };
    let waiting = sign_in(&host, "ada", &Secret::new(PASSWORD)).await;
    assert!(client.call(&calls::cluster().as_session(&waiting)).await.is_err());
    // The code that set it up is used up.
    assert!(give(&waiting, &totp.generate_current().to_string()).await.is_err());
    let session = give(&waiting, codes[0].expose()).await.unwrap();
    assert!(session.token != waiting && !session.info.code_needed);
    assert!(client.call(&calls::session().as_session(&waiting)).await.is_err(), "the first token goes on");
    let again = sign_in(&host, "ada", &Secret::new(PASSWORD)).await;
    assert!(give(&again, codes[0].expose()).await.is_err(), "a recovery code was used twice");
    let in_a_while = totp.generate(totp.next_step_current()).to_string();
    assert!(give(&again, &in_a_while).await.is_ok());
    // An administrator lets in whoever has lost everything.
    client.call(&calls::reset_second_factor("ada").as_session(&admin)).await.unwrap();
    assert!(client.call(&calls::session().as_session(&session.token)).await.is_err());
    let plain = sign_in(&host, "ada", &Secret::new(PASSWORD)).await;
    assert!(client.call(&calls::cluster().as_session(&plain)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_on_one_host_shows_that_host_only_and_two_do_not_change_one_thing_unseen() {
    let (hosts, admin) = cluster_of(2).await;
    let client = hosts[1].client();
    let host = &hosts[1];
    let id = client.call(&calls::cluster().as_session(&admin)).await.unwrap().this_host;
    let role = NewRole { name: "nothing-yet".into(), purpose: String::new(), rights: [Right::BackUp].into() };
    client.call(&calls::make_role(&role).as_session(&admin)).await.unwrap();
    let ada = host.somebody(&admin, "ada", "nothing-yet").await;
    assert!(client.call(&calls::host().as_session(&ada)).await.is_err());
    let here = NewAccess { who: Who::User("ada".into()), role: "viewer".into(), scope: Scope::Host(id) };
    client.call(&calls::give_access(&here).as_session(&admin)).await.unwrap();
    assert!(client.call(&calls::host().as_session(&ada)).await.is_ok());
    assert_eq!(client.call(&calls::cluster().as_session(&ada)).await.unwrap().hosts.len(), 1);
    assert_eq!(client.call(&calls::cluster().as_session(&admin)).await.unwrap().hosts.len(), 2);
    assert!(hosts[0].client().call(&calls::host().as_session(&ada)).await.is_err(), "the other host");
    let seen = client.call(&calls::role("nothing-yet").as_session(&admin)).await.unwrap().version;
    let change = quantix_api::ChangeRole { purpose: Some("Two at once".into()), rights: None };
    let call = || calls::change_role("nothing-yet", &change).if_version(seen).as_session(&admin);
    client.call(&call()).await.unwrap();
    let refused = client.call(&call()).await.unwrap_err();
    assert!(matches!(
        refused,
        quantix_api::CallError::Problem(Problem { code: ProblemCode::ChangedMeanwhile, .. })
    ));
}
