//! The roles of a user or a group, and the form that gives another: a part of their pages.

use askama::{Template, filters::HtmlSafe};
use quantix_api::{
    Access, CallError, Cluster, Folder, Held, ListQuery, NewAccess, Right, Role, Scope, Who, calls,
};

use crate::{
    component::{Field, Heads, Icon, Post},
    folders,
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
    places: Places,
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
        let (access, roles, places) =
            tokio::try_join!(web.agent.call(&access), web.agent.call(&roles), Places::read(web, frame))?;
        Ok(Self {
            path,
            given: access.items.into_iter().filter(|access| access.who == who).collect(),
            through: held.iter().filter(|held| held.through.is_some()).cloned().collect(),
            roles: roles.items,
            places,
        })
    }

    fn deed(&self, deed: &str) -> String {
        format!("{}/{deed}", self.path)
    }

    /// A place as people call it.
    fn place(&self, scope: &Scope) -> String {
        self.places.name(scope)
    }

    fn role_choices(&self) -> Vec<(&str, &str)> {
        self.roles.iter().map(|role| (role.name.as_str(), role.name.as_str())).collect()
    }

    fn place_choices(&self) -> Vec<(String, String)> {
        self.places.choices()
    }
}

/// Where roles count, as people call it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Vec<(Scope, String)>);

impl Places {
    /// The hosts and the folders that one sees.
    pub(crate) async fn read(web: &Web, frame: &Frame) -> Result<Self, CallError> {
        let folders = match frame.person.may_somewhere(Right::See) {
            true => web.agent.call(&calls::folders().as_session(frame.token())).await?.items,
            false => Vec::new(),
        };
        Ok(Self::of(frame.cluster(), &folders))
    }

    fn of(cluster: Option<&Cluster>, folders: &[Folder]) -> Self {
        let hosts = cluster.map_or(&[][..], |cluster| &cluster.hosts);
        let hosts = hosts.iter().map(|host| (Scope::Host(host.id.clone()), format!("on {}", host.name)));
        let folders =
            folders::paths(folders).into_iter().map(|(id, path)| (Scope::Folder(id), format!("in {path}")));
        let everywhere = (Scope::Datacenter, "everywhere".to_owned());
        Self(std::iter::once(everywhere).chain(hosts).chain(folders).collect())
    }

    /// A place as people call it.
    pub(crate) fn name(&self, scope: &Scope) -> String {
        let known = self.0.iter().find(|(known, _)| known == scope);
        known.map_or_else(|| format!("on {scope}"), |(_, name)| name.clone())
    }

    /// Where a role can be given.
    pub(crate) fn choices(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(scope, name)| (scope.to_string(), name.clone())).collect()
    }
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
