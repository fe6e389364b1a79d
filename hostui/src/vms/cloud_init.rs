//! What the guest of a machine is told when it starts for the first time: the part of the form that makes a machine, and the
//! page that changes it.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{
    CallError, CardAddresses, CloudInit, FetchSshKeys, Problem, ProblemCode, Secret, SshKey, Vm, calls,
    text::is_line,
};
use serde::Deserialize;

use super::{
    form::{checked, lines},
    machine_of,
};
use crate::{
    api,
    component::{Fault, Field, Post},
    frame::Frame,
    problem::{Filled, draw, is_told},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
};

/// The address of keys that are fetched.
#[derive(Debug, Deserialize)]
pub(crate) struct KeysForm {
    url: String,
}

/// `POST /vms/ssh-keys`
pub(crate) async fn fetch_keys(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<KeysForm>,
) -> Response {
    let body = FetchSshKeys { url: form.url.trim().to_owned(), ..FetchSshKeys::default() };
    api::told(&web, calls::fetch_ssh_keys(&body).as_session(frame.token()).for_client(client.0)).await
}

const LONGEST_LINE: usize = 1000;

/// What is filled in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    #[serde(rename = "cloud_init.user")]
    pub(super) user: String,
    #[serde(rename = "cloud_init.password")]
    pub(super) password: String,
    /// Where a person types it, it is typed twice.
    #[serde(rename = "cloud_init.password_again")]
    pub(super) password_again: Option<String>,
    #[serde(rename = "cloud_init.keep_password")]
    pub(super) keep_password: Option<String>,
    #[serde(rename = "cloud_init.ssh_keys")]
    pub(super) ssh_keys: String,
    #[serde(rename = "cloud_init.sudo_without_password")]
    pub(super) sudo_without_password: Option<String>,
    #[serde(rename = "cloud_init.hostname")]
    pub(super) hostname: String,
    #[serde(rename = "cloud_init.domain")]
    pub(super) domain: String,
    #[serde(rename = "cloud_init.network")]
    pub(super) network: String,
    #[serde(rename = "cloud_init.install_guest_agent")]
    pub(super) install_guest_agent: Option<String>,
    #[serde(rename = "cloud_init.package_update")]
    pub(super) package_update: Option<String>,
    #[serde(rename = "cloud_init.user_data")]
    pub(super) user_data: String,
    #[serde(rename = "cloud_init.user_data_replaces")]
    pub(super) user_data_replaces: Option<String>,
}

/// The fields, for a problem that is about none of them.
pub(super) const FIELDS: [&str; 8] = [
    "cloud_init.user",
    "cloud_init.password",
    "cloud_init.password_again",
    "cloud_init.ssh_keys",
    "cloud_init.hostname",
    "cloud_init.domain",
    "cloud_init.network",
    "cloud_init.user_data",
];

/// What a key is, for people.
pub(super) fn in_words(key: &str) -> String {
    SshKey::parse(key).map_or_else(|refused| refused.to_string(), |key| key.words())
}

impl Told {
    /// The keys that are there, in words, and by what people compare them.
    pub(super) fn keys(&self) -> Vec<(String, String)> {
        let keys = lines(&self.ssh_keys).filter_map(|line| SshKey::parse(line).ok());
        keys.map(|key| (key.words(), key.fingerprint())).collect()
    }

    pub(super) fn of(told: &CloudInit) -> Self {
        Self {
            user: told.user.clone(),
            password: String::new(),
            password_again: None,
            keep_password: checked(told.keep_password),
            ssh_keys: told.ssh_keys.join("\n"),
            sudo_without_password: checked(told.sudo_without_password),
            hostname: told.hostname.clone(),
            domain: told.domain.clone(),
            network: told.network.iter().map(line_of).collect::<Vec<_>>().join("\n"),
            install_guest_agent: checked(told.install_guest_agent),
            package_update: checked(told.package_update),
            user_data: told.user_data.clone(),
            user_data_replaces: checked(told.user_data_replaces),
        }
    }

    /// What it says; nothing if nothing was filled in that a guest could be told.
    pub(super) fn read(&self) -> Result<Option<CloudInit>, Problem> {
        if self.password_again.as_ref().is_some_and(|again| *again != self.password) {
            let sentence = "This is not the same password as before it. Type both anew.";
            return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("cloud_init.password_again"));
        }
        let network = self.network.lines().map(str::trim).map(card).collect::<Result<Vec<_>, _>>()?;
        let has_network = network.iter().any(|card| *card != CardAddresses::default());
        let told = CloudInit {
            user: self.user.trim().to_owned(),
            password: Some(&self.password).filter(|password| !password.is_empty()).map(Secret::new),
            keep_password: self.keep_password.is_some(),
            ssh_keys: lines(&self.ssh_keys).map(str::to_owned).collect(),
            sudo_without_password: self.sudo_without_password.is_some(),
            hostname: self.hostname.trim().to_owned(),
            domain: self.domain.trim().to_owned(),
            network: if has_network { network } else { Vec::new() },
            install_guest_agent: self.install_guest_agent.is_some(),
            package_update: self.package_update.is_some(),
            user_data: self.user_data.trim_start().replace("\r\n", "\n"),
            user_data_replaces: self.user_data_replaces.is_some(),
        };
        let says_something = told.lets_in()
            || has_network
            || ![&told.user, &told.hostname, &told.domain, &told.user_data].into_iter().all(String::is_empty);
        Ok(says_something.then_some(told))
    }
}

/// The addresses of a card as a line: what follows a word is what the word says.
fn line_of(card: &CardAddresses) -> String {
    let mut words = card.addresses.clone();
    let gateways = [card.gateway4.map(|ip| ip.to_string()), card.gateway6.map(|ip| ip.to_string())];
    words.extend(gateways.into_iter().flatten().flat_map(|gateway| ["via".to_owned(), gateway]));
    words.extend(card.name_servers.iter().flat_map(|server| ["dns".to_owned(), server.to_string()]));
    words.extend(card.search.iter().flat_map(|domain| ["search".to_owned(), domain.clone()]));
    words.join(" ")
}

fn card(line: &str) -> Result<CardAddresses, Problem> {
    let wrong = || {
        let sentence = "A line is the addresses of a card and the way out, as in: 192.0.2.10/24 via 192.0.2.1 dns 192.0.2.53";
        Problem::new(ProblemCode::Invalid, sentence).in_field("cloud_init.network")
    };
    let mut card = CardAddresses::default();
    if matches!(line, "" | "dhcp" | "DHCP") {
        return Ok(card);
    }
    if !is_line(line, LONGEST_LINE) {
        return Err(wrong());
    }
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or_else(wrong);
        match word {
            "via" => match next()?.parse().map_err(|_| wrong())? {
                std::net::IpAddr::V4(ip) => card.gateway4 = Some(ip),
                std::net::IpAddr::V6(ip) => card.gateway6 = Some(ip),
            },
            "dns" => card.name_servers.push(next()?.parse().map_err(|_| wrong())?),
            "search" => card.search.push(next()?.to_owned()),
            address => card.addresses.push(address.to_owned()),
        }
    }
    Ok(card)
}

/// A problem as the form calls its fields: those of one card are in one field.
pub(super) fn beside_its_field(problem: Problem) -> Problem {
    let field = problem.field.clone().unwrap_or_default();
    let name = field.strip_prefix("cloud_init.").unwrap_or(&field);
    let name = name.split_once('.').map_or(name, |(first, _)| first);
    let named = format!("cloud_init.{name}");
    if FIELDS.contains(&named.as_str()) { problem.in_field(&named) } else { problem }
}

#[derive(Debug, Deserialize)]
pub(crate) struct CloudInitForm {
    version: String,
    #[serde(flatten)]
    told: Told,
}

#[derive(Debug, Template)]
#[template(path = "vms/cloud_init.html")]
struct CloudInitPage {
    frame: Frame,
    vm: Vm,
    told: Told,
    problem: Option<Problem>,
}

impl CloudInitPage {
    fn address(&self) -> String {
        format!("/vms/{}/cloud-init", self.vm.id)
    }

    fn faults(&self) -> Fault {
        Fault::of(&self.problem, &FIELDS)
    }
}

async fn show(web: &Web, frame: Frame, id: &str, filled: Option<(Told, Problem)>) -> Response {
    let told = calls::cloud_init(id).as_session(frame.token());
    let vm = match machine_of(web, &frame, id).await {
        Ok(vm) => vm,
        Err(answer) => return answer,
    };
    let (told, problem) = match filled {
        Some((told, problem)) => (told, Some(beside_its_field(problem))),
        None if !vm.has_cloud_init => (Told::of(&CloudInit::default()), None),
        None => match web.agent.call(&told).await {
            Ok(told) => (Told::of(&told), None),
            Err(error) => return turned_away(&error),
        },
    };
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    (status, draw(&CloudInitPage { frame, vm, told, problem })).into_response()
}

/// `GET /vms/{id}/cloud-init`
pub(crate) async fn cloud_init_page(
    State(web): State<Web>,
    frame: Frame,
    Path(id): Path<String>,
) -> Response {
    show(&web, frame, &id, None).await
}

/// `POST /vms/{id}/cloud-init`
pub(crate) async fn set_cloud_init(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<CloudInitForm>,
) -> Response {
    let told = match form.told.read() {
        Ok(Some(told)) => told,
        Ok(None) => {
            let sentence = "Say at least who gets in, or what else the guest is told.";
            let problem = Problem::new(ProblemCode::Invalid, sentence).in_field("cloud_init.user");
            return show(&web, frame, &id, Some((form.told, problem))).await;
        }
        Err(problem) => return show(&web, frame, &id, Some((form.told, problem))).await,
    };
    let call = calls::set_cloud_init(&id, &told).if_version(form.version.parse().unwrap_or_default());
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(_) => done(
            &format!("/vms/{id}"),
            "Saved. The guest does what it is told when the machine starts the next time.",
        ),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            show(&web, frame, &id, Some((form.told, problem))).await
        }
        Err(error) => turned_away(&error),
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Which {
    version: u64,
}

/// `POST /vms/{id}/cloud-init/remove`
pub(crate) async fn remove_cloud_init(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<Which>,
) -> Response {
    let call = calls::remove_cloud_init(&id).if_version(form.version);
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(()) => done(&format!("/vms/{id}"), "Its guest is told nothing any more."),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            show(&web, frame, &id, Some((Told::default(), problem))).await
        }
        Err(error) => turned_away(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_written_as_they_are_read() {
        for line in [
            "",
            "192.0.2.10/24 2001:db8::5/64 via 192.0.2.1 via 2001:db8::1 dns 192.0.2.53 search example.com",
        ] {
            assert_eq!(line_of(&card(line).unwrap()), line);
        }
        assert_eq!(card("dhcp").unwrap(), CardAddresses::default());
        for wrong in ["192.0.2.10/24 via", "a via b", "192.0.2.10/24 dns x"] {
            assert_eq!(card(wrong).unwrap_err().field.as_deref(), Some("cloud_init.network"), "{wrong}");
        }
    }

    #[test]
    fn a_form_that_says_nothing_tells_no_guest_anything() {
        assert_eq!(Told::of(&CloudInit::default()).read().unwrap(), None);
        let told = Told { user: " ops ".into(), password: "a".into(), ..Told::default() };
        let read = told.read().unwrap().unwrap();
        assert_eq!((read.user.as_str(), read.password.unwrap().expose()), ("ops", "a"));
        let of_a_card = Problem::new(ProblemCode::Invalid, "").in_field("cloud_init.network.0.addresses");
        assert_eq!(beside_its_field(of_a_card).field.as_deref(), Some("cloud_init.network"));
        let of_a_machine = Problem::new(ProblemCode::Invalid, "").in_field("spec.name");
        assert_eq!(beside_its_field(of_a_machine).field.as_deref(), Some("spec.name"));
    }
}
