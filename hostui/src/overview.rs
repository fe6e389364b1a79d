//! The first page: how many machines there are, what the hosts have together, how each is, and what needs attention.

use std::collections::HashMap;

use askama::Template;
use axum::{extract::State, response::Response};
use quantix_api::{Check, CheckState, Cluster, ClusterHost, HostFacts, Right, VmCounts, calls};

use crate::{
    component::{Badge, Heads, Icon, Level, Meter, Standing},
    frame::Frame,
    hosts::{Share, facts_of_all, share},
    member::{self, Member},
    problem::draw,
    session::turned_away,
    web::Web,
};

/// Hosts on this page; the list has all.
const MOST_HOSTS: usize = 20;

#[derive(Debug, Template)]
#[template(path = "overview/page.html", blocks = ["all", "vms"])]
struct Overview {
    frame: Frame,
    /// Of the machines that whoever looks may see; nothing for whoever may see none.
    vms: Option<VmCounts>,
    cluster: Cluster,
    facts: HashMap<String, HostFacts>,
    attention: Vec<(Standing, String)>,
}

/// `GET /overview`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    let counted = async {
        match frame.person.may_somewhere(Right::See) {
            true => web.agent.call(&calls::vm_counts().as_session(frame.token())).await.map(Some),
            false => Ok(None),
        }
    };
    let (cluster_call, ready_call) = (calls::cluster().as_session(frame.token()), calls::ready());
    let asked = tokio::try_join!(web.agent.call(&cluster_call), web.agent.call(&ready_call), counted);
    let (cluster, readiness, vms) = match asked {
        Ok(found) => found,
        Err(error) => return turned_away(&error),
    };
    // The machines come and go more often than the hosts tell of themselves.
    let facts = match frame.block() {
        Some("vms") => HashMap::new(),
        _ => facts_of_all(&web, frame.token(), &cluster).await,
    };
    let attention = attention(&cluster, readiness.checks);
    let page = Overview { frame, vms, cluster, facts, attention };
    match page.frame.block() {
        Some("all") => draw(&page.as_all()),
        Some("vms") => draw(&page.as_vms()),
        _ => draw(&page),
    }
}

/// What is wrong, the worst first: in the cluster, with its hosts, and on the host that answers.
fn attention(cluster: &Cluster, checks: Vec<Check>) -> Vec<(Standing, String)> {
    let mut all = Vec::new();
    if !cluster.writable {
        all.push((Standing::bad("Nothing can be changed now"), member::why_not_writable(cluster)));
    }
    for member in Member::all(cluster).filter(|member| member.is_lost()) {
        let sentence = "It is off, or the network between the hosts is broken.".to_owned();
        all.push((Standing::bad(format!("{} is not heard", member.host.name)), sentence));
    }
    all.extend(cluster.trouble.iter().map(|sentence| (Standing::bad("Cluster"), sentence.clone())));
    let mut checks: Vec<_> = checks.into_iter().filter(|check| check.state != CheckState::Ok).collect();
    checks.sort_by_key(|check| std::cmp::Reverse(check.state));
    all.extend(checks.into_iter().map(|check| {
        let level = if check.state == CheckState::Failed { Level::Bad } else { Level::Warn };
        (Standing::new(level, format!("{} on {}", check.name, cluster.this_name())), check.detail)
    }));
    all
}

/// How many machines are like something, and where they are listed.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    count: u64,
    words: &'static str,
    state: &'static str,
    class: &'static str,
}

/// The parts of what there is: who is on and off always, the others where there are any.
fn parts(vms: &VmCounts) -> Vec<Counted> {
    let part = |count, words, state, class| Counted { count, words, state, class };
    let needs = if vms.attention == 1 { "of them needs attention" } else { "of them need attention" };
    let templates = if vms.template == 1 { "template" } else { "templates" };
    let mut parts = vec![part(vms.on, "on", "on", ""), part(vms.off, "off", "off", "")];
    let others =
        [part(vms.attention, needs, "attention", "warn"), part(vms.template, templates, "template", "")];
    parts.extend(others.into_iter().filter(|part| part.count > 0));
    parts
}

impl Overview {
    fn may_make(&self) -> bool {
        self.frame.person.may_somewhere(Right::ManageVms)
    }

    fn shown(&self) -> &[ClusterHost] {
        &self.cluster.hosts[..self.cluster.hosts.len().min(MOST_HOSTS)]
    }

    fn member<'a>(&'a self, host: &'a ClusterHost) -> Member<'a> {
        Member::new(&self.cluster, host)
    }

    fn facts(&self, host: &ClusterHost) -> Option<&HostFacts> {
        self.facts.get(&host.id)
    }

    fn memory(&self, facts: &HostFacts) -> Meter {
        share("Memory in use", facts.memory.available_bytes, facts.memory.total_bytes).2
    }

    fn state(&self, facts: &HostFacts) -> Meter {
        let storage = &facts.state_storage;
        share("State partition in use", storage.available_bytes, storage.size_bytes).2
    }

    /// Threads, cores and sockets of all that answer.
    fn processors(&self) -> (u32, String) {
        let sum = |count: fn(&HostFacts) -> u32| self.facts.values().map(count).sum::<u32>();
        let threads = sum(|facts| facts.cpu.threads);
        (threads, crate::words::cores(sum(|facts| facts.cpu.cores), sum(|facts| facts.cpu.sockets)))
    }

    fn all_memory(&self) -> Share {
        let sum = |count: fn(&HostFacts) -> u64| self.facts.values().map(count).sum::<u64>();
        share(
            "Memory in use",
            sum(|facts| facts.memory.available_bytes),
            sum(|facts| facts.memory.total_bytes),
        )
    }

    fn all_state(&self) -> Share {
        let sum = |count: fn(&HostFacts) -> u64| self.facts.values().map(count).sum::<u64>();
        share(
            "State partitions in use",
            sum(|facts| facts.state_storage.available_bytes),
            sum(|facts| facts.state_storage.size_bytes),
        )
    }

    /// Whose figures are in the sums, if not everybody's.
    fn left_out(&self) -> Option<String> {
        let (known, all) = (self.facts.len(), self.cluster.hosts.len());
        (known < all).then(|| format!("Figures are of {known} of {all} hosts; the others do not answer."))
    }

    /// `3 hosts · 3 of 3 voters there, one may fail · vDC role on qx-01`
    fn summary(&self) -> String {
        let leader = Member::all(&self.cluster).find(Member::leads);
        let role = leader.map_or_else(
            || "no host has the vDC role".to_owned(),
            |leader| format!("vDC role on {}", leader.host.name),
        );
        let hosts = self.cluster.hosts.len();
        if hosts == 1 {
            return format!("A cluster of one host · {role}");
        }
        let (voters, bears) = member::voters(&self.cluster);
        let there = Member::all(&self.cluster).filter(|member| member.votes() && !member.is_lost()).count();
        let bears = match bears {
            0 => "none may fail".to_owned(),
            1 => "one may fail".to_owned(),
            more => format!("{more} may fail"),
        };
        format!("{hosts} hosts · {there} of {voters} voters there, {bears} · {role}")
    }
}

#[cfg(test)]
mod tests {
    use quantix_api::{HostRole, built_in};

    use super::*;
    use crate::{
        frame::tests::frame,
        member::tests::{cluster, host},
    };

    fn page(cluster: Cluster) -> Overview {
        let frame = frame("/overview", built_in::VIEWER);
        let attention = attention(&cluster, Vec::new());
        Overview { frame, vms: None, attention, cluster, facts: HashMap::new() }
    }

    #[test]
    fn machines_are_told_in_parts_and_an_empty_cluster_leads_to_the_first() {
        let vms = VmCounts { all: 5, on: 3, off: 1, attention: 1, template: 1 };
        let words: Vec<_> = parts(&vms).iter().map(|part| format!("{} {}", part.count, part.words)).collect();
        assert_eq!(words, ["3 on", "1 off", "1 of them needs attention", "1 template"]);
        assert_eq!(parts(&VmCounts::default()).len(), 2);
        let mut page = page(cluster(vec![host("a1", HostRole::Leader, None)], true));
        assert!(!page.render().unwrap().contains("Virtual machines"));
        page.vms = Some(vms);
        assert!(page.render().unwrap().contains(r#"href="/vms?state=attention""#));
        page.vms = Some(VmCounts::default());
        let empty = page.render().unwrap();
        // A viewer makes none.
        assert!(empty.contains("No virtual machines yet") && !empty.contains("/vms/new"));
    }

    #[test]
    fn the_cluster_is_told_in_a_sentence() {
        let hosts = vec![
            host("a1", HostRole::Leader, None),
            host("a2", HostRole::Voter, Some(10)),
            host("a3", HostRole::Voter, Some(90_000)),
        ];
        let page = page(cluster(hosts, true));
        assert_eq!(page.summary(), "3 hosts · 2 of 3 voters there, one may fail · vDC role on a1");
        assert_eq!(page.left_out().unwrap(), "Figures are of 0 of 3 hosts; the others do not answer.");
        assert_eq!(page.attention[0].0, Standing::bad("a3 is not heard"));
    }

    #[test]
    fn a_cluster_without_a_leader_says_so_first() {
        let hosts = vec![host("a1", HostRole::Voter, None), host("a2", HostRole::Voter, None)];
        let page = page(cluster(hosts, false));
        assert!(page.summary().ends_with("no host has the vDC role"));
        assert_eq!(page.attention[0].0, Standing::bad("Nothing can be changed now"));
        assert!(page.render().unwrap().contains("Needs attention"));
    }
}
