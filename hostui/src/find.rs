//! Find or do: every page, machine, host and person by name, and what can be done from anywhere. As a palette over the page, and
//! as a page of its own.

use askama::Template;
use axum::{extract::State, response::Response};
use quantix_api::{ListQuery, Right, VmQuery, calls};

use crate::{component::Icon, frame::Frame, problem::draw, reader::Theme, web::Web};

/// What is listed of each kind; whoever looks for more types more.
const MOST_OF_A_KIND: usize = 8;

/// Where something leads, or what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// To a page.
    Page(String),
    /// A form that is sent: where to, and with what.
    Post(&'static str, Vec<(&'static str, String)>),
}

/// Something that can be found.
#[derive(Clone, Debug)]
struct Item {
    icon: &'static str,
    title: String,
    /// What stands beside it.
    note: String,
    way: Way,
}

impl Item {
    fn page(
        icon: &'static str,
        title: impl Into<String>,
        note: impl Into<String>,
        path: impl Into<String>,
    ) -> Self {
        Self { icon, title: title.into(), note: note.into(), way: Way::Page(path.into()) }
    }

    fn post(icon: &'static str, title: &str, path: &'static str, with: Vec<(&'static str, String)>) -> Self {
        Self { icon, title: title.to_owned(), note: String::new(), way: Way::Post(path, with) }
    }

    /// Whether all words are in it somewhere, in capitals or not.
    fn has(&self, words: &[String]) -> bool {
        let text = format!("{} {}", self.title, self.note).to_lowercase();
        words.iter().all(|word| text.contains(word.as_str()))
    }
}

/// Things of one kind.
#[derive(Clone, Debug)]
struct Group {
    title: &'static str,
    items: Vec<Item>,
}

#[derive(Debug, Template)]
#[template(path = "find/page.html", blocks = ["palette", "found"])]
struct FindPage {
    frame: Frame,
    text: String,
    groups: Vec<Group>,
}

impl FindPage {
    /// What the keyboard's place in the list is named by.
    fn id(&self, group: &Group, index: usize) -> String {
        format!("found-{}-{index}", group.title.split(' ').next().unwrap_or_default().to_lowercase())
    }
}

/// `GET /find?text=…`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    let text: String = frame.address.get("text").trim().chars().take(100).collect();
    // Many have short names in common with what is looked for: the agent narrows them down.
    let some = ListQuery { limit: Some(50), text: Some(text.clone()), ..ListQuery::default() };
    let (cluster_call, users_call) =
        (calls::cluster().as_session(frame.token()), calls::users(&some).as_session(frame.token()));
    let some_vms = VmQuery { limit: Some(50), text: Some(text.clone()), ..VmQuery::default() };
    let vms_call = calls::vms(&some_vms).as_session(frame.token());
    let users = async { if frame.manages_people() { web.agent.call(&users_call).await.ok() } else { None } };
    // What cannot be asked about now is not found; the rest is.
    let (cluster, users, vms) = tokio::join!(web.agent.call(&cluster_call), users, web.agent.call(&vms_call));
    let hosts = cluster.map(|cluster| cluster.hosts).unwrap_or_default();
    let hosts = hosts
        .into_iter()
        .map(|host| Item::page("server", host.name, host.address, format!("/hosts/{}", host.id)));
    let people = users.map(|users| users.items).unwrap_or_default();
    let people = people.into_iter().map(|user| {
        let path = format!("/users/{}", user.username);
        Item::page("user", user.username, "", path)
    });
    let vms = vms.map(|vms| vms.items).unwrap_or_default();
    let vms = vms.into_iter().map(|vm| {
        let path = format!("/vms/{}", vm.id);
        Item::page("monitor", vm.spec.name, vm.host_name, path)
    });
    let groups = vec![
        Group { title: "Go to", items: places(&frame) },
        Group { title: "VMs", items: vms.collect() },
        Group { title: "Hosts", items: hosts.collect() },
        Group { title: "People", items: people.collect() },
        Group { title: "Do", items: deeds(&frame) },
    ];
    let page = FindPage { groups: only(groups, &text), text, frame };
    match page.frame.block() {
        Some("palette") => draw(&page.as_palette()),
        Some("found") => draw(&page.as_found()),
        _ => draw(&page),
    }
}

fn places(frame: &Frame) -> Vec<Item> {
    let areas = frame.areas().map(|area| Item::page("chevron-right", area.title, "", area.path));
    let settings =
        frame.settings().map(|setting| Item::page(setting.icon, setting.title, "Settings", setting.path));
    areas.chain(settings).collect()
}

fn deeds(frame: &Frame) -> Vec<Item> {
    let mut deeds = Vec::new();
    if frame.person.may_somewhere(Right::ManageVms) {
        deeds.push(Item::page("plus", "New virtual machine", "make one", "/vms/new"));
    }
    if frame.manages_cluster() {
        deeds.push(Item::page("plus", "Add a host", "make a join token", "/cluster/add"));
    }
    if frame.manages_people() {
        deeds.push(Item::page("plus", "New user", "add a person", "/users"));
    }
    if frame.backs_up() {
        deeds.push(Item::page("download", "Back up the cluster", "", "/cluster/backup"));
    }
    deeds.push(Item::page("key", "Change password", "", "/password"));
    for (theme, icon, title) in [
        (Theme::Light, "sun", "Light theme"),
        (Theme::Dark, "moon", "Dark theme"),
        (Theme::System, "monitor", "Theme of the system"),
    ] {
        if theme != frame.theme() {
            deeds.push(Item::post(icon, title, "/theme", vec![("theme", theme.name().to_owned())]));
        }
    }
    deeds.push(Item::post("log-out", "Sign out", "/sign-out", Vec::new()));
    deeds
}

/// What has all the words of `text` in it.
fn only(groups: Vec<Group>, text: &str) -> Vec<Group> {
    let words: Vec<String> = text.to_lowercase().split_whitespace().map(str::to_owned).collect();
    let narrowed = groups.into_iter().map(|mut group| {
        group.items.retain(|item| item.has(&words));
        group.items.truncate(MOST_OF_A_KIND);
        group
    });
    narrowed.filter(|group| !group.items.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use quantix_api::built_in::{ADMINISTRATOR, VIEWER};

    use super::*;
    use crate::frame::tests::frame;

    fn check(role: &str, text: &str) -> Vec<String> {
        let frame = frame("/find", role);
        let groups = vec![
            Group { title: "Go to", items: places(&frame) },
            Group { title: "Do", items: deeds(&frame) },
        ];
        only(groups, text).into_iter().flat_map(|group| group.items).map(|item| item.title).collect()
    }

    #[test]
    fn things_are_found_by_any_of_their_words() {
        assert_eq!(check(ADMINISTRATOR, "  USER "), ["Users", "New user"]);
        assert_eq!(check(ADMINISTRATOR, "join make"), ["Add a host"]);
        assert_eq!(check(VIEWER, "sign"), ["Sign out"]);
        assert_eq!(check(VIEWER, "nothing of the kind"), Vec::<String>::new());
    }

    #[test]
    fn what_one_may_not_do_is_not_offered() {
        let offered = check(VIEWER, "");
        for hidden in ["Add a host", "New user", "New virtual machine", "Users", "Back up the cluster"] {
            assert!(!offered.iter().any(|title| title == hidden), "{hidden}");
        }
    }
}
