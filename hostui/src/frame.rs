//! What stands round every page: where one is, who one is, what one may do, and the ways to everywhere else. A page
//! takes a [`Frame`] as an argument and keeps it as its field `frame`; whoever may not see the page does not get there.

use axum::{
    extract::FromRequestParts,
    http::request::Parts,
    response::{IntoResponse, Redirect, Response},
};
use quantix_api::{Cluster, ClusterHost, Right, Secret, SessionInfo, calls};

use crate::{
    address::{Address, BLOCK},
    reader::{self, Theme},
    session::{SignedIn, turned_away},
    web::Web,
};

/// Hosts that the menu of the bar names; the list has all of them.
const MOST_NAMED: usize = 12;

/// A place that the bar leads to.
#[derive(Debug)]
pub(crate) struct Area {
    pub(crate) title: &'static str,
    pub(crate) path: &'static str,
    /// What else belongs to it: first parts of paths.
    also: &'static [&'static str],
    /// Who may not do this is not shown the way.
    needs: Option<Right>,
}

/// A place that the side of the settings leads to.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) title: &'static str,
    pub(crate) path: &'static str,
    pub(crate) icon: &'static str,
    /// What is set there.
    pub(crate) sentence: &'static str,
    /// Who may not do this is not shown the way.
    needs: Option<Right>,
}

const SETTINGS_PATH: &str = "/settings";

/// Every area there is. A new one is a line here.
const AREAS: &[Area] = &[
    Area { title: "Overview", path: "/overview", also: &[], needs: None },
    Area { title: "VMs", path: "/vms", also: &[], needs: Some(Right::See) },
    Area { title: "Storage", path: "/storage", also: &[], needs: Some(Right::See) },
    Area { title: "Hosts", path: "/hosts", also: &[], needs: Some(Right::See) },
    Area { title: "Cluster", path: "/cluster", also: &[], needs: Some(Right::See) },
    Area { title: "Activity", path: "/activity/tasks", also: &["/activity"], needs: Some(Right::See) },
    Area { title: "Settings", path: SETTINGS_PATH, also: &["/users", "/groups", "/roles"], needs: None },
];

/// Every page of the settings. A new one is a line here, a route, and a template that extends `settings/frame.html`.
const SETTINGS: &[Setting] = &[
    Setting {
        title: "Users",
        path: "/users",
        icon: "user",
        sentence: "Who may sign in at any host of the cluster, and what they may do.",
        needs: Some(Right::ManagePeople),
    },
    Setting {
        title: "Groups",
        path: "/groups",
        icon: "users",
        sentence: "What is given to a group, everybody in it has.",
        needs: Some(Right::ManagePeople),
    },
    Setting {
        title: "Roles",
        path: "/roles",
        icon: "shield",
        sentence: "Rights with a name, to give to users and groups.",
        needs: Some(Right::ManagePeople),
    },
    Setting {
        title: "Certificate",
        path: "/settings/certificate",
        icon: "lock",
        sentence: "What each host shows to browsers to prove that it is the one.",
        needs: Some(Right::ManageSettings),
    },
    Setting {
        title: "Sign-in",
        path: "/settings/sign-in",
        icon: "key",
        sentence: "An identity provider that vouches for people.",
        needs: Some(Right::ManageSettings),
    },
    Setting {
        title: "Syslog",
        path: "/settings/syslog",
        icon: "terminal",
        sentence: "A receiver that is told who did what.",
        needs: Some(Right::ManageSettings),
    },
];

/// What every page has round it.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    token: Secret,
    pub(crate) person: SessionInfo,
    /// Where one is, without the name of a block.
    pub(crate) address: Address,
    block: Option<String>,
    /// Nothing while it is not known, and while only a block is asked for.
    cluster: Option<Cluster>,
}

impl FromRequestParts<Web> for Frame {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Response> {
        let SignedIn(token) = SignedIn::from_request_parts(parts, web).await?;
        let asked = Address::of(&parts.uri);
        let block = Some(asked.get(BLOCK).to_owned()).filter(|block| !block.is_empty());
        let (session_call, cluster_call) =
            (calls::session().as_session(&token), calls::cluster().as_session(&token));
        let cluster = async {
            match block {
                Some(_) => None,
                // Without it the page is still worth drawing; what needs it says what is wrong.
                None => web.agent.call(&cluster_call).await.ok(),
            }
        };
        let (person, cluster) = tokio::join!(web.agent.call(&session_call), cluster);
        let person = person.map_err(|error| turned_away(&error))?;
        if person.code_needed {
            return Err(Redirect::to("/sign-in/code").into_response());
        }
        if person.must_change_password {
            return Err(Redirect::to("/password").into_response());
        }
        Ok(Self { token, person, address: asked.without(BLOCK), block, cluster })
    }
}

impl Frame {
    /// Where the page listens: from what was in the data before it was drawn.
    pub(crate) fn live_address(&self) -> String {
        match &self.cluster {
            Some(cluster) => format!("/live?after={}", cluster.applied_index),
            None => "/live".to_owned(),
        }
    }

    /// What calls are made with.
    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }

    /// The block that is asked for instead of the whole page.
    pub(crate) fn block(&self) -> Option<&str> {
        self.block.as_deref()
    }

    /// Whether one may do something everywhere: what decides which buttons a page has. The agent decides again.
    pub(crate) fn may(&self, right: Right) -> bool {
        self.person.may(right)
    }

    pub(crate) fn manages_cluster(&self) -> bool {
        self.may(Right::ManageCluster)
    }

    pub(crate) fn manages_people(&self) -> bool {
        self.may(Right::ManagePeople)
    }

    pub(crate) fn backs_up(&self) -> bool {
        self.may(Right::BackUp)
    }

    /// The areas one may go to.
    pub(crate) fn areas(&self) -> impl Iterator<Item = &'static Area> + '_ {
        let has_settings = self.settings().next().is_some();
        AREAS.iter().filter(move |area| match area.needs {
            _ if area.path == SETTINGS_PATH => has_settings,
            Some(right) => self.person.may_somewhere(right),
            None => true,
        })
    }

    /// The settings one may change.
    pub(crate) fn settings(&self) -> impl Iterator<Item = &'static Setting> + '_ {
        SETTINGS.iter().filter(|setting| setting.needs.is_none_or(|right| self.may(right)))
    }

    pub(crate) fn is_in_area(&self, area: &Area) -> bool {
        self.is_below(area.path) || area.also.iter().any(|path| self.is_below(path))
    }

    pub(crate) fn is_in_setting(&self, setting: &Setting) -> bool {
        self.is_below(setting.path)
    }

    fn is_below(&self, path: &str) -> bool {
        let rest = self.address.path().strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The cluster, if it was read.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// How many hosts there are, and the first of them.
    pub(crate) fn hosts(&self) -> (usize, &[ClusterHost]) {
        let hosts = self.cluster.as_ref().map_or(&[][..], |cluster| &cluster.hosts);
        (hosts.len(), &hosts[..hosts.len().min(MOST_NAMED)])
    }

    /// What the bar shows as where one is: the host whose page it is, or the one that answers.
    pub(crate) fn scope(&self) -> &str {
        let Some(cluster) = &self.cluster else { return "" };
        let host = self.address.path().strip_prefix("/hosts/").and_then(|rest| rest.split('/').next());
        let named = host.and_then(|id| cluster.hosts.iter().find(|host| host.id == id));
        named.map_or_else(|| cluster.this_name(), |host| &host.name)
    }

    pub(crate) fn theme(&self) -> Theme {
        reader::theme()
    }

    /// The attributes of an element that is drawn anew when something of one of these kinds changes: `frame.live("hosts",
    /// "host, cluster")`. The element is the whole of the block of that name, and the name is its id.
    pub(crate) fn live(&self, block: &'static str, topics: &'static str) -> Live {
        let topics: Vec<_> = topics.split(',').map(|topic| format!("sse:{}", topic.trim())).collect();
        Live { block, link: self.address.with(BLOCK, block).to_string(), triggers: topics.join(", ") }
    }

    /// The same for what changes all the time, so that nobody tells of it: it is drawn anew every so many seconds while
    /// somebody looks.
    pub(crate) fn timed(&self, block: &'static str, seconds: u32) -> Timed {
        Timed { block, link: self.address.with(BLOCK, block).to_string(), seconds }
    }
}

/// See [`Frame::timed`].
#[derive(Debug, askama::Template)]
#[template(
    ext = "html",
    source = r#"id="{{ block }}" data-timed hx-get="{{ link }}" hx-trigger="every {{ seconds }}s" hx-target="this" hx-swap="outerHTML""#
)]
pub(crate) struct Timed {
    block: &'static str,
    link: String,
    seconds: u32,
}

impl askama::filters::HtmlSafe for Timed {}

/// See [`Frame::live`].
#[derive(Debug, askama::Template)]
#[template(
    ext = "html",
    source = r#"id="{{ block }}" hx-get="{{ link }}" hx-trigger="{{ triggers }}, again" hx-target="this" hx-swap="outerHTML""#
)]
pub(crate) struct Live {
    block: &'static str,
    link: String,
    triggers: String,
}

impl askama::filters::HtmlSafe for Live {}

impl Live {
    /// Looks again every few seconds while something is under way that no event tells the end of.
    pub(crate) fn again_if(mut self, moving: bool) -> Self {
        if moving {
            self.triggers.push_str(", every 3s");
        }
        self
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use quantix_api::{Held, Scope, built_in};

    use super::*;

    /// A frame of somebody on a page.
    pub(crate) fn frame(uri: &str, role: &str) -> Frame {
        let held = Held {
            role: role.to_owned(),
            rights: built_in::rights(role).unwrap().iter().copied().collect(),
            scope: Scope::Datacenter,
            through: None,
        };
        let person = SessionInfo {
            username: "ada".to_owned(),
            roles: vec![held],
            code_needed: false,
            must_change_password: false,
            second_factor: false,
        };
        let address = Address::of(&uri.parse().unwrap());
        Frame { token: Secret::new("00".repeat(32)), person, address, block: None, cluster: None }
    }

    #[test]
    fn one_area_is_where_one_is() {
        let here = |uri: &str| {
            let frame = frame(uri, built_in::ADMINISTRATOR);
            frame.areas().filter(|area| frame.is_in_area(area)).map(|area| area.title).collect::<Vec<_>>()
        };
        assert_eq!(here("/cluster/add"), ["Cluster"]);
        assert_eq!(here("/users/ada"), ["Settings"]);
        assert_eq!(here("/clusters"), Vec::<&str>::new());
    }

    #[test]
    fn ways_to_what_one_may_not_do_are_not_shown() {
        let viewer = frame("/overview", built_in::VIEWER);
        let areas: Vec<_> = viewer.areas().map(|area| area.title).collect();
        assert_eq!(areas, ["Overview", "VMs", "Storage", "Hosts", "Cluster", "Activity"]);
        assert_eq!(viewer.settings().count(), 0);
    }

    #[test]
    fn a_live_block_asks_for_itself() {
        let live = frame("/hosts?sort=name", built_in::VIEWER).live("hosts", "host, cluster");
        insta::assert_snapshot!(live, @r#"id="hosts" hx-get="/hosts?sort=name&#38;block=hosts" hx-trigger="sse:host, sse:cluster, again" hx-target="this" hx-swap="outerHTML""#);
    }
}
