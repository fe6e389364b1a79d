//! Joining: what a new host does, and what the cluster's leader answers.

use std::net::SocketAddr;

use quantix_api::{CLUSTER_PORT, JoinCluster, Problem, ProblemCode};
use quantix_store::{Address, HostId, Store};
use serde::{Deserialize, Serialize};

use super::{
    Cluster, Contact, JoinToken, RENEW, Refused, authority, kept,
    member::Member,
    node, schema, sign,
    transport::{self, Binding},
    unusable,
};
use crate::{audit::Line, sessions::now, text};

/// What a new host asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// By which the cluster finds the token.
    token: [u8; 8],
    host: HostId,
    name: String,
    /// The port it is reached at; its address is seen.
    port: u16,
    /// Its key, to be signed.
    request: String,
}

/// What it is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    certificate: String,
    authority: String,
    contacts: Vec<Contact>,
}

/// An ask as a member passes it on to the leader: the connection it came over, its bytes, and the proof.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub(super) binding: Binding,
    pub(super) ask: String,
    pub(super) proof: Vec<u8>,
    pub(super) from: String,
}

/// The answer's bytes, with the cluster's proof that they are its.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answered {
    pub(super) answer: String,
    pub(super) proof: Vec<u8>,
}

impl Cluster {
    /// Joins the cluster of another host. When it is done, this host starts again as its member.
    pub(crate) async fn join(&self, wanted: &JoinCluster, hostname: &str) -> Result<(), Problem> {
        let _only = self.only_change()?;
        self.must_be_alone()?;
        self.must_have_no_machines().await?;
        let token = JoinToken::read(wanted.token.expose()).ok_or_else(|| {
            Problem::new(
                ProblemCode::Invalid,
                "This is no join token. It looks like QUANTIX-XXXX-XXXX-XXXX-XXXX and is made on a member, under Cluster.",
            )
            .in_field("token")
        })?;
        let address = with_port(&wanted.address)?;

        let (id, key) = self.make_ready().await?;
        let request = authority::request(&key, id).map_err(|error| internal(&error))?;
        let ask = Ask {
            token: token.kept().id,
            host: id,
            name: hostname.to_owned(),
            port: self.listen.port(),
            request,
        };
        let answer = ask_to_join(&address, &token, &ask).await?;
        let member = Member {
            key,
            certificate: answer.certificate,
            authority: answer.authority,
            renew_at: now() + RENEW.as_secs(),
            contacts: answer.contacts,
        };
        member.identity().map_err(|error| internal(&error))?;
        member.write(&self.joining).map_err(|error| not_written(&error))?;
        self.switch().map_err(|error| not_written(&error))?;
        log::info!("This host starts again as a member of the cluster at {address}");
        self.start_again.notify_one();
        Ok(())
    }

    /// An empty store under a new id, and a new key.
    async fn make_ready(&self) -> Result<(HostId, String), Problem> {
        self.finish_switch().map_err(|error| not_written(&error))?;
        let store =
            Store::open(&self.joining.join("store"), schema::SCHEMA, Box::new(self.dialler.clone())).await;
        let store = store.map_err(|error| not_written(&error))?;
        let id = store.id();
        store.close().await;
        Ok((id, authority::new_key().map_err(|error| internal(&error))?))
    }

    /// Leaves the cluster: this host starts again as one of its own, with nothing of the cluster's data.
    pub(crate) async fn forget(&self) -> Result<(), Problem> {
        let _only = self.only_change()?;
        self.finish_switch().map_err(|error| not_written(&error))?;
        std::fs::create_dir_all(&self.joining).map_err(|error| not_written(&error))?;
        self.switch().map_err(|error| not_written(&error))?;
        log::info!("This host starts again as a cluster of its own");
        self.start_again.notify_one();
        Ok(())
    }

    /// What the leader answers a new host. Whatever comes of it is in the audit log.
    pub(super) async fn admit(&self, asked: &Asked) -> Result<Answered, Problem> {
        let ask: Ask = serde_json::from_str(&asked.ask)
            .map_err(|_| Problem::new(ProblemCode::Malformed, "This is not how a host asks to join."))?;
        let (id, name, from) = (ask.token, ask.name.clone(), asked.from.clone());
        let result = self.admit_known(ask, asked).await;
        if let Err(problem) = &result {
            let line =
                Line::done("a new host", &from, "join", text::beginning(&name, 64)).refused(&*problem.detail);
            log::warn!(token:? = id; "A host was not let in: {}", problem.detail);
            self.note(line).await?;
        }
        result
    }

    async fn admit_known(&self, ask: Ask, asked: &Asked) -> Result<Answered, Problem> {
        let store = self.store()?;
        let kept = self.read(move |connection| kept::token(connection, &ask.token)).await?;
        let kept = kept.filter(|kept| kept.is_proof(&asked.binding, asked.ask.as_bytes(), &asked.proof));
        let kept = kept.ok_or_else(|| {
            Problem::new(
                ProblemCode::Forbidden,
                "This cluster does not know the join token. It may be mistyped, or of another cluster.",
            )
        })?;
        check_name(&ask.name)?;
        let address = node::reached_at(&asked.from, ask.port)?;
        let status = store.status();
        if let Some(other) =
            status.members.iter().find(|member| member.address.0 == address && member.id != ask.host)
        {
            return Err(Problem::new(
                ProblemCode::Invalid,
                format!("The cluster has a host at {address} already ({}). Remove it first.", other.id),
            ));
        }
        let now = now();
        let line = Line::done("a new host", &asked.from, "join", format!("{} ({})", ask.name, ask.host));
        let signed = self.write_noted(line, move |connection| {
            kept::use_token(connection, &ask.token, ask.host, &ask.name, now)?;
            let authority = kept::authority(connection)?.ok_or_else(unusable)?;
            let certificate = sign(&authority, &ask.request, ask.host, now)?;
            let (_, key_hash) = authority::host_of_pem(&certificate).ok_or_else(unusable)?;
            kept::keep_host(connection, ask.host, &ask.name, &key_hash, now)?;
            Ok::<_, Refused>((certificate, authority.certificate))
        });
        let (certificate, authority) = signed.await?;
        let contacts =
            status.members.into_iter().map(|member| Contact { host: member.id, address: member.address.0 });
        let answer = Answer { certificate, authority, contacts: contacts.collect() };
        let answer = serde_json::to_string(&answer).map_err(|error| internal(&error))?;
        let proof = kept.answer(&asked.binding, asked.ask.as_bytes(), answer.as_bytes()).to_vec();
        Ok(Answered { answer, proof })
    }

    /// Takes a host that was let in into the store's members; the leader does.
    pub(super) async fn welcome(&self, host: HostId, address: String) -> Result<(), Problem> {
        let store = self.store()?;
        let known = self.read(kept::hosts).await?;
        if !known.iter().any(|kept| kept.id == host) {
            return Err(Problem::new(ProblemCode::Forbidden, "This host was removed from the cluster."));
        }
        let status = store.status();
        let added = match status.members.iter().find(|member| member.id == host) {
            Some(member) if member.address.0 == address => return Ok(()),
            Some(_) => store.set_address(host, Address(address)).await,
            None => store.add(host, Address(address)).await,
        };
        added.map_err(|failure| Problem::new(ProblemCode::Unavailable, format!("{failure}.")))
    }
}

async fn ask_to_join(address: &str, token: &JoinToken, ask: &Ask) -> Result<Answer, Problem> {
    let unreachable = |error: &dyn std::fmt::Display| {
        Problem::new(
            ProblemCode::Unavailable,
            format!("No member of a cluster answers at {address} ({error}). Check the address, and that port {CLUSTER_PORT} is open."),
        )
        .in_field("address")
    };
    let (stream, binding) = transport::reach_stranger(address).await.map_err(|error| unreachable(&error))?;
    let ask = serde_json::to_string(ask).map_err(|error| internal(&error))?;
    let proof = token.proof(&binding, ask.as_bytes()).to_vec();
    let body =
        serde_json::to_vec(&node::Joining { ask: ask.clone(), proof }).map_err(|error| internal(&error))?;
    let answered: Answered = node::post_over(stream, node::JOIN, body).await?;
    if !token.is_answer(&binding, ask.as_bytes(), answered.answer.as_bytes(), &answered.proof) {
        return Err(Problem::new(
            ProblemCode::Forbidden,
            "Whoever answers at this address does not know the join token: somebody may be in between. Nothing was changed.",
        ));
    }
    serde_json::from_str(&answered.answer).map_err(|error| internal(&error))
}

/// The address as it was typed, with the usual port unless another was named.
pub(super) fn with_port(typed: &str) -> Result<String, Problem> {
    let typed = typed.trim();
    let bare = typed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(typed);
    let invalid = || {
        Problem::new(
            ProblemCode::Invalid,
            format!(
                "{} is no address. Type the name or the IP address of a member.",
                text::beginning(typed, 64)
            ),
        )
        .in_field("address")
    };
    if let Ok(ip) = bare.parse::<std::net::IpAddr>() {
        return Ok(SocketAddr::new(ip, CLUSTER_PORT).to_string());
    }
    let (name, port) = typed.rsplit_once(':').unwrap_or((typed, ""));
    let is_port = port.is_empty() && !typed.ends_with(':') || is_port(port);
    let is_name = match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|six| six.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            (1..=253).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        }
    };
    match (is_name && is_port, port.is_empty()) {
        (false, _) => Err(invalid()),
        (true, true) => Ok(format!("{name}:{CLUSTER_PORT}")),
        (true, false) => Ok(typed.to_owned()),
    }
}

/// Digits only: numbers may be written with a plus elsewhere, and no resolver takes that.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A name must be one that a host can have.
fn check_name(name: &str) -> Result<(), Problem> {
    let is_name = (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_name {
        return Ok(());
    }
    let sentence = format!(
        "{} is no name for a host: letters, digits and dashes, at most 63.",
        text::beginning(name, 64)
    );
    Err(Problem::new(ProblemCode::Invalid, sentence).in_field("name"))
}

fn internal(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(ProblemCode::Internal, error.to_string())
}

fn not_written(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(ProblemCode::StorageUnavailable, format!("The membership could not be written: {error}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_usual_port() {
        let read = |typed| with_port(typed).map_err(|problem| problem.detail);
        assert_eq!(read(" 192.0.2.1 ").unwrap(), "192.0.2.1:7443");
        assert_eq!(read("2001:db8::1").unwrap(), "[2001:db8::1]:7443");
        assert_eq!(read("[2001:db8::1]").unwrap(), "[2001:db8::1]:7443");
        assert_eq!(read("host-1.example").unwrap(), "host-1.example:7443");
        assert_eq!(read("host-1:7444").unwrap(), "host-1:7444");
        assert_eq!(read("[2001:db8::1]:7444").unwrap(), "[2001:db8::1]:7444");
        let misplaced = ["[2001:d:1]:7444", "[host]:7444", "[::1:7444", "a:b:7444", "ho[st"];
        for wrong in
            ["", "a b", "host:", "host:0", "host:70000", "host:+1", "[::1]:+1", "https://host", "a\nb"]
                .into_iter()
                .chain(misplaced)
        {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_are_those_that_hosts_can_have() {
        assert!(check_name("qx-01").is_ok());
        for wrong in ["", "-a", "a-", "a.b", "<img>", &"a".repeat(64), "a b"] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
