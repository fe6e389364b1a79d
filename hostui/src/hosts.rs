//! The hosts: all of them as a list, and each with pages of its own.

use std::{collections::HashMap, time::Duration};

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use quantix_api::{
    CallError, Cluster, ClusterHost, HostFacts, ProblemCode, Right, Scope, Secret, Service, SlotName, calls,
};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    component::{Badge, Chips, Heads, Icon, Level, Meter, Pager, Search, Standing},
    frame::Frame,
    load::{self, Load},
    member::Member,
    problem::{Page, draw},
    session::turned_away,
    web::Web,
    words,
};

/// What a page of the list shows.
const ON_A_PAGE: usize = 50;
/// A host that says nothing about itself in this time is left out of what several say.
const SAYS_WITHIN: Duration = Duration::from_secs(2);

/// Which hosts a list shows.
const STATES: [(&str, &str); 4] =
    [("", "All"), ("voting", "Voting"), ("standing-by", "Standing by"), ("lost", "Not heard")];

#[derive(Debug, Template)]
#[template(path = "hosts/page.html", blocks = ["hosts"])]
struct HostsPage {
    frame: Frame,
    cluster: Cluster,
    /// Those that are shown, in order.
    shown: Vec<ClusterHost>,
    all: usize,
    pager: Pager,
}

impl HostsPage {
    fn member<'a>(&'a self, host: &'a ClusterHost) -> Member<'a> {
        Member::new(&self.cluster, host)
    }

    fn count(&self) -> String {
        if self.shown.len() == self.all {
            String::new()
        } else {
            format!("{} of {}", self.shown.len(), self.all)
        }
    }
}

/// `GET /hosts?text=…&state=…&sort=…`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    let cluster = match web.agent.call(&calls::cluster().as_session(frame.token())).await {
        Ok(cluster) => cluster,
        Err(error) => return turned_away(&error),
    };
    let address = &frame.address;
    let wanted = wanted(&cluster, address.get("text"), address.get("state"), address.get("sort"));
    let all = cluster.hosts.len();
    let (shown, next) = part(wanted, address.get("after"));
    let pager = Pager::new(address, next.as_deref());
    let page = HostsPage { frame, cluster, shown, all, pager };
    if page.frame.block() == Some("hosts") { draw(&page.as_hosts()) } else { draw(&page) }
}

/// The hosts that are asked for, in the order that is asked for.
fn wanted(cluster: &Cluster, text: &str, state: &str, sort: &str) -> Vec<ClusterHost> {
    let text = text.trim().to_lowercase();
    let is_wanted = |member: &Member<'_>| {
        let host = member.host;
        let has_text =
            [&host.name, &host.address, &host.id].iter().any(|word| word.to_lowercase().contains(&text));
        has_text
            && match state {
                "voting" => member.votes(),
                "standing-by" => !member.votes() && !member.is_joining(),
                "lost" => member.is_lost(),
                _ => true,
            }
    };
    let mut hosts: Vec<_> =
        Member::all(cluster).filter(is_wanted).map(|member| member.host.clone()).collect();
    match sort.trim_start_matches('-') {
        "address" => hosts.sort_by(|one, other| one.address.cmp(&other.address)),
        "joined" => hosts.sort_by_key(|host| host.joined_at),
        _ => hosts.sort_by(|one, other| one.name.cmp(&other.name)),
    }
    if sort.starts_with('-') {
        hosts.reverse();
    }
    hosts
}

/// What comes after a host, and where the next part begins.
fn part(hosts: Vec<ClusterHost>, after: &str) -> (Vec<ClusterHost>, Option<String>) {
    let start = hosts.iter().position(|host| host.id == after).map_or(0, |place| place + 1);
    let more = hosts.len() > start + ON_A_PAGE;
    let shown: Vec<_> = hosts.into_iter().skip(start).take(ON_A_PAGE).collect();
    let next = shown.last().filter(|_| more).map(|host| host.id.clone());
    (shown, next)
}

/// The pages of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tab {
    Summary,
    Hardware,
    Services,
}

impl Tab {
    const ALL: [(Self, &str, &str); 3] = [
        (Self::Summary, "Summary", ""),
        (Self::Hardware, "Hardware", "/hardware"),
        (Self::Services, "Services", "/services"),
    ];
}

#[derive(Debug, Template)]
#[template(path = "hosts/host.html", blocks = ["host"])]
struct HostPage {
    frame: Frame,
    cluster: Cluster,
    host: ClusterHost,
    /// What it says about itself, or why it says nothing.
    facts: Result<Box<HostFacts>, String>,
    tab: Tab,
    /// What it uses, where that is shown.
    load: Option<Load>,
}

impl HostPage {
    fn member(&self) -> Member<'_> {
        Member::new(&self.cluster, &self.host)
    }

    /// Whether whoever looks may restart this host.
    fn may_operate(&self) -> bool {
        let on = Scope::Host(self.host.id.clone());
        self.cluster.writable
            && !self.member().is_joining()
            && self.frame.person.may_on(Right::OperateHosts, on)
    }

    fn memory(&self, facts: &HostFacts) -> Share {
        share("Memory in use", facts.memory.available_bytes, facts.memory.total_bytes)
    }

    fn state(&self, facts: &HostFacts) -> Share {
        let storage = &facts.state_storage;
        share("State partition in use", storage.available_bytes, storage.size_bytes)
    }

    fn uptime(&self, facts: &HostFacts) -> String {
        let up = Timestamp::now().duration_since(facts.booted_at).as_secs();
        words::duration(u64::try_from(up).unwrap_or_default())
    }

    fn slot(&self, facts: &HostFacts) -> String {
        let Some(slot) = &facts.slot else { return "not run from a slot".to_owned() };
        let name = match slot.name {
            SlotName::A => "A",
            SlotName::B => "B",
        };
        format!("{name}, {}", if slot.verified { "verified" } else { "not verified" })
    }

    fn service_state(&self, service: &Service) -> Standing {
        if service.error.is_none() { Standing::ok("Answers") } else { Standing::bad("Does not answer") }
    }
}

/// What is in use, of how much, and as a meter.
pub(crate) type Share = (String, String, Meter);

pub(crate) fn share(label: &'static str, available: u64, total: u64) -> Share {
    let used = total.saturating_sub(available);
    (words::bytes(used), format!("of {}", words::bytes(total)), Meter::of(label, used, total))
}

/// `GET /hosts/{id}`
pub(crate) async fn summary(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    host_page(&web, frame, &id, Tab::Summary).await
}

/// `GET /hosts/{id}/hardware`
pub(crate) async fn hardware(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    host_page(&web, frame, &id, Tab::Hardware).await
}

/// `GET /hosts/{id}/services`
pub(crate) async fn services(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    host_page(&web, frame, &id, Tab::Services).await
}

async fn host_page(web: &Web, frame: Frame, id: &str, tab: Tab) -> Response {
    let cluster = match web.agent.call(&calls::cluster().as_session(frame.token())).await {
        Ok(cluster) => cluster,
        Err(error) => return turned_away(&error),
    };
    let Some(host) = cluster.hosts.iter().find(|host| host.id == id).cloned() else {
        return Page::not_found().into_response();
    };
    let facts = match web.agent.call(&calls::host_facts(&host.id).as_session(frame.token())).await {
        Ok(facts) => Ok(Box::new(facts)),
        // A session that has ended does not leave the page half drawn.
        Err(error) if matches!(&error, CallError::Problem(problem) if problem.code == ProblemCode::SignInNeeded) =>
        {
            return turned_away(&error);
        }
        Err(error) => Err(error.to_string()),
    };
    let load = match &facts {
        Ok(facts) if tab == Tab::Summary && frame.block() != Some("host") => {
            let call = calls::host_metrics(&host.id, &load::asked(&frame.address)).as_session(frame.token());
            Some(Load::of(&frame, web.agent.call(&call).await, facts.memory.total_bytes))
        }
        _ => None,
    };
    if let Some(load) = load.as_ref().filter(|_| frame.block() == Some(load::BLOCK)) {
        return draw(load);
    }
    let page = HostPage { frame, cluster, host, facts, tab, load };
    if page.frame.block() == Some("host") { draw(&page.as_host()) } else { draw(&page) }
}

/// What those hosts say about themselves that can be asked and answer soon, by their ids.
pub(crate) async fn facts_of_all(web: &Web, token: &Secret, cluster: &Cluster) -> HashMap<String, HostFacts> {
    let mut asked = JoinSet::new();
    for member in Member::all(cluster).filter(|member| !member.is_lost() && !member.is_joining()) {
        let (agent, id, token) = (web.agent.clone(), member.host.id.clone(), token.clone());
        asked.spawn(async move {
            let call = calls::host_facts(&id).as_session(&token);
            Some((id, timeout(SAYS_WITHIN, agent.call(&call)).await.ok()?.ok()?))
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use quantix_api::HostRole;

    use super::*;
    use crate::member::tests::{cluster, host};

    fn names(hosts: &[ClusterHost]) -> Vec<&str> {
        hosts.iter().map(|host| host.name.as_str()).collect()
    }

    #[test]
    fn hosts_are_narrowed_down_and_sorted() {
        let cluster = cluster(
            vec![
                host("b", HostRole::Leader, None),
                host("a", HostRole::Learner, Some(10)),
                host("c", HostRole::Voter, Some(60_000)),
            ],
            true,
        );
        let check = |text, state, sort| names(&wanted(&cluster, text, state, sort)).join(" ");
        assert_eq!(check("", "", ""), "a b c");
        assert_eq!(check("", "", "-name"), "c b a");
        assert_eq!(check("", "voting", "name"), "b c");
        assert_eq!(check("", "standing-by", "name"), "a");
        assert_eq!(check("", "lost", "name"), "c");
        assert_eq!(check(" A ", "", "name"), "a");
        assert_eq!(check("192.0", "strange", "strange"), "a b c");
    }

    #[test]
    fn a_long_list_comes_in_parts() {
        let hosts: Vec<_> =
            (0..70).map(|number| host(&format!("{number:02}"), HostRole::Learner, None)).collect();
        let (first, next) = part(hosts.clone(), "");
        assert_eq!((first.len(), next.as_deref()), (50, Some("0000000000000049")));
        let (second, next) = part(hosts.clone(), &next.unwrap());
        assert_eq!((names(&second)[0], second.len(), next), ("50", 20, None));
        assert_eq!(part(hosts, "gone").0.len(), 50);
    }
}
