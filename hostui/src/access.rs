//! The roles of a user or a group, and the form that gives another: a part of their pages.

use askama::{Template, filters::HtmlSafe};
use quantix_api::{Access, CallError, Cluster, Held, ListQuery, NewAccess, Role, Scope, Who, calls};

use crate::{
    component::{Field, Heads, Icon, Post},
    frame::Frame,
    web::{ClientAddress, Web},
};

/// The most that can be asked for at once.
pub(crate) fn all() -> ListQuery {
    ListQuery { limit: Some(1000), ..ListQuery::default() }
}

/// The roles somebody has, with a button that takes each back, and a form that gives another.
#[derive(Debug, Template)]
#[template(path = "access/panel.html")]
pub(crate) struct Given {
    /// Where the page is that shows it.
    path: String,
    given: Vec<Access>,
    /// What comes through groups.
    through: Vec<Held>,
    roles: Vec<Role>,
    /// The hosts, by id, with their names.
    hosts: Vec<(String, String)>,
}

impl HtmlSafe for Given {}

impl Given {
    /// Reads it for a page at `path`.
    pub(crate) async fn read(
        web: &Web,
        frame: &Frame,
        path: String,
        who: Who,
        held: &[Held],
    ) -> Result<Self, CallError> {
        let name = match &who {
            Who::User(name) | Who::Group(name) => name.clone(),
        };
        let query = ListQuery { text: Some(name), ..all() };
        let (access, roles) =
            (calls::access(&query).as_session(frame.token()), calls::roles(&all()).as_session(frame.token()));
        let (access, roles) = tokio::try_join!(web.agent.call(&access), web.agent.call(&roles))?;
        Ok(Self {
            path,
            given: access.items.into_iter().filter(|access| access.who == who).collect(),
            through: held.iter().filter(|held| held.through.is_some()).cloned().collect(),
            roles: roles.items,
            hosts: hosts(frame.cluster()),
        })
    }

    fn deed(&self, deed: &str) -> String {
        format!("{}/{deed}", self.path)
    }

    /// A place as people call it.
    fn place(&self, scope: &Scope) -> String {
        place(scope, &self.hosts)
    }

    fn role_choices(&self) -> Vec<(&str, &str)> {
        self.roles.iter().map(|role| (role.name.as_str(), role.name.as_str())).collect()
    }

    fn place_choices(&self) -> Vec<(String, String)> {
        place_choices(&self.hosts)
    }
}

/// The hosts by id with their names.
pub(crate) fn hosts(cluster: Option<&Cluster>) -> Vec<(String, String)> {
    let hosts = cluster.map_or(&[][..], |cluster| &cluster.hosts);
    hosts.iter().map(|host| (host.id.clone(), host.name.clone())).collect()
}

/// A place as people call it.
pub(crate) fn place(scope: &Scope, hosts: &[(String, String)]) -> String {
    match scope {
        Scope::Datacenter => "everywhere".to_owned(),
        Scope::Host(id) => {
            let name =
                hosts.iter().find(|(host, _)| host == id).map_or(id.as_str(), |(_, name)| name.as_str());
            format!("on {name}")
        }
    }
}

/// Where a role can be given.
pub(crate) fn place_choices(hosts: &[(String, String)]) -> Vec<(String, String)> {
    let everywhere = (Scope::Datacenter.to_string(), "everywhere".to_owned());
    let on_hosts = hosts.iter().map(|(id, name)| (Scope::Host(id.clone()).to_string(), format!("on {name}")));
    std::iter::once(everywhere).chain(on_hosts).collect()
}

/// Gives a role, as a form says.
pub(crate) async fn give(
    web: &Web,
    client: ClientAddress,
    frame: &Frame,
    who: Who,
    role: Option<String>,
    place: Option<String>,
) -> Result<(), CallError> {
    // A place that is none is one that nobody has: the agent says so.
    let scope = place.and_then(|place| place.parse().ok()).unwrap_or(Scope::Host("0".repeat(16)));
    let new = NewAccess { who, role: role.unwrap_or_default(), scope };
    web.agent.call(&calls::give_access(&new).as_session(frame.token()).for_client(client.0)).await.map(drop)
}

/// Takes a role back, as a form says.
pub(crate) async fn take(
    web: &Web,
    client: ClientAddress,
    frame: &Frame,
    id: Option<i64>,
) -> Result<(), CallError> {
    let call = calls::take_access(id.unwrap_or_default()).as_session(frame.token()).for_client(client.0);
    web.agent.call(&call).await
}
