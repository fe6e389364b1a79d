//! Who asks, and what they may do. Each section of routes says what it needs; whoever has it comes through, before
//! anything else of the request is looked at, and the handler is told who it is.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{FromRequestParts, RawPathParams, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::Response,
};
use quantix_api::{Place, Problem, ProblemCode, Right, Scope, SessionInfo};
use rusqlite::Connection;

use super::{
    Agent,
    answer::Failure,
    peer::{Client, sign_in_needed},
};
use crate::{
    account::{rights, second_factor, tokens},
    audit::Line,
    sessions::{self, TokenHash},
    vms::folders,
};

/// What a route needs of whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// A session or a token, in whatever state.
    Begun,
    /// A session whose code was given; the password may still have to be chosen.
    Session,
    /// A session that is good for everything: what a person does for themselves.
    Person,
    /// A session or a token that is good for everything it may do.
    SignedIn,
    /// A right, on the object in the path where there is one.
    Right(Right),
    /// A right somewhere; where, is looked at when the request is read.
    Somewhere(Right),
}

impl Needs {
    /// Its name in the document of the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Begun => "begun-session",
            Self::Session => "session",
            Self::Person => "person",
            Self::SignedIn => "signed-in",
            Self::Right(right) | Self::Somewhere(right) => right.name(),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) info: SessionInfo,
    /// Of the session or the token.
    pub(crate) hash: TokenHash,
    /// Whether a program asks, with a token of the person's.
    pub(crate) is_program: bool,
}

impl Person {
    pub(crate) fn name(&self) -> &str {
        &self.info.username
    }

    /// A line about what they do, to be written with it.
    pub(crate) fn line(&self, client: Client, action: &str, object: impl Into<String>) -> Line {
        Line::done(self.name(), &client, action, object)
    }

    /// Refuses what they may not do to an object.
    pub(crate) fn must_have(&self, right: Right, on: impl Into<Place>) -> Result<(), Problem> {
        if self.info.may_on(right, on) { Ok(()) } else { Err(may_not(right)) }
    }

    /// Whoever has to do something first is told what.
    fn must_be_complete(&self, but_for_password: bool) -> Result<(), Problem> {
        if self.info.code_needed {
            let sentence = "Give the code of your second factor first.";
            return Err(Problem::new(ProblemCode::CodeNeeded, sentence));
        }
        if self.info.must_change_password && !but_for_password {
            let sentence = "Choose a password of your own first.";
            return Err(Problem::new(ProblemCode::PasswordChangeNeeded, sentence));
        }
        Ok(())
    }

    fn must_be_a_person(&self) -> Result<(), Problem> {
        if self.is_program {
            let sentence = "A token for programs cannot do this. Sign in and do it yourself.";
            return Err(Problem::new(ProblemCode::Forbidden, sentence));
        }
        Ok(())
    }

    /// What they see when they may not see everything; nothing if they may.
    pub(crate) fn sees(&self) -> Option<Vec<Scope>> {
        if self.info.may(Right::See) {
            return None;
        }
        let held = self.info.roles.iter().filter(|held| held.rights.contains(&Right::See));
        Some(held.map(|held| held.scope.clone()).collect())
    }

    fn must_meet(&self, needs: Needs, on: Option<Place>) -> Result<(), Problem> {
        match needs {
            Needs::Nothing | Needs::Begun => Ok(()),
            Needs::Session => self.must_be_a_person().and_then(|()| self.must_be_complete(true)),
            Needs::Person => self.must_be_a_person().and_then(|()| self.must_be_complete(false)),
            Needs::SignedIn => self.must_be_complete(false),
            Needs::Somewhere(right) => {
                self.must_be_complete(false)?;
                if self.info.may_somewhere(right) { Ok(()) } else { Err(may_not(right)) }
            }
            Needs::Right(right) => {
                self.must_be_complete(false)?;
                let may = match on {
                    Some(on) => self.info.may_on(right, on),
                    // Whoever may see something may look; what is shown is what they may see.
                    None if right == Right::See => self.info.may_somewhere(right),
                    None => self.info.may(right),
                };
                if may { Ok(()) } else { Err(may_not(right)) }
            }
        }
    }
}

pub(super) fn may_not(right: Right) -> Problem {
    let what = match right {
        Right::See => "see this",
        Right::SeeActivity => "read who did what",
        Right::OperateHosts => "restart hosts and services",
        Right::OperateVms => "switch virtual machines on and off",
        Right::ManageVms => "make, change or remove virtual machines",
        Right::ManageStorage => "look after pools and images",
        Right::ManageCluster => "change the cluster",
        Right::ManagePeople => "look after users, groups and roles",
        Right::ManageSettings => "change the settings",
        Right::BackUp => "back up or restore",
    };
    Problem::new(
        ProblemCode::Forbidden,
        format!("You may not {what} here. Ask an administrator for the right."),
    )
}

impl<S: Sync> FromRequestParts<S> for Person {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        // The section of the route has put it there.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| sign_in_needed().into())
    }
}

/// The token of `Authorization: Bearer …`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Lets through whoever has what a section needs.
pub(crate) async fn check(
    State((agent, needs)): State<(Arc<Agent>, Needs)>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if needs == Needs::Nothing {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let source = Client::of(&parts.headers).source();
    agent.strangers.look(&source, Instant::now())?;
    let person = match bearer(&parts.headers) {
        Some(token) => agent.person(token).await,
        None => Err(sign_in_needed()),
    };
    let person = person.inspect_err(|_| drop(agent.strangers.take(&source, Instant::now())))?;
    agent.people.take(&person.hash, Instant::now())?;
    person.must_meet(needs, agent.object(&mut parts).await?)?;
    parts.extensions.insert(person);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

impl Agent {
    /// The object that a path is about. One that cannot be is nowhere, where nobody but those who may everywhere do
    /// anything.
    async fn object(&self, parts: &mut Parts) -> Result<Option<Place>, Problem> {
        let Ok(named) = RawPathParams::from_request_parts(parts, &()).await else { return Ok(None) };
        let scope = named.iter().find_map(|(name, value)| match name {
            "host" => Some(Scope::Host(value.to_owned())),
            "vm" => Some(Scope::Vm(value.to_owned())),
            "folder" => Some(Scope::Folder(value.parse().unwrap_or_default())),
            "volume" => Some(Scope::Volume(value.to_owned())),
            _ => None,
        });
        match scope {
            Some(scope) => Ok(Some(self.place(scope).await?)),
            None => Ok(None),
        }
    }

    /// Where an object is.
    pub(crate) async fn place(&self, scope: Scope) -> Result<Place, Problem> {
        match scope {
            Scope::Datacenter | Scope::Host(_) | Scope::Pool(_) | Scope::Image(_) => Ok(scope.into()),
            Scope::Folder(_) | Scope::Vm(_) | Scope::Volume(_) => {
                self.cluster.read(move |connection| folders::place(connection, &scope)).await
            }
        }
    }

    /// Whose session or token it is.
    pub(crate) async fn person(&self, token: &str) -> Result<Person, Problem> {
        let (hash, now) = (sessions::hash(token), sessions::now());
        let here = self.sessions_here.find(&hash, now);
        let is_program = tokens::is_one(token);
        let find = move |connection: &Connection| {
            if is_program {
                let Some(found) = tokens::find(connection, &hash, now)? else { return Ok(None) };
                return Ok(Some((
                    SessionInfo {
                        username: found.username,
                        roles: found.roles,
                        code_needed: false,
                        must_change_password: found.must_change_password,
                        second_factor: false,
                    },
                    found.is_to_be_noted,
                )));
            }
            let found = match here {
                Some(session) => Some((session, false)),
                None => sessions::find(connection, &hash, now)?.map(|session| {
                    let is_to_be_noted = session.is_to_be_noted(now);
                    (session, is_to_be_noted)
                }),
            };
            let Some((session, is_to_be_noted)) = found else { return Ok(None) };
            let roles = rights::of_user(connection, &session.username)?;
            let info = SessionInfo {
                second_factor: second_factor::is_set_up(connection, &session.username)?,
                roles,
                username: session.username,
                code_needed: session.code_needed,
                must_change_password: session.must_change_password,
            };
            Ok(Some((info, is_to_be_noted)))
        };
        let (info, is_to_be_noted) = self.cluster.read(find).await?.ok_or_else(sign_in_needed)?;
        if is_to_be_noted {
            self.note_later(token.to_owned());
        }
        Ok(Person { info, hash, is_program })
    }
}

#[cfg(test)]
mod tests {
    use quantix_api::Held;

    use super::*;

    fn person(rights: &[Right], scope: &str, change: impl FnOnce(&mut Person)) -> Person {
        let held = Held {
            role: "some".into(),
            through: None,
            scope: scope.parse().unwrap(),
            rights: rights.iter().copied().collect(),
        };
        let info = SessionInfo {
            username: "ada".into(),
            roles: vec![held],
            code_needed: false,
            must_change_password: false,
            second_factor: false,
        };
        let mut person = Person { info, hash: [0; 32], is_program: false };
        change(&mut person);
        person
    }

    fn code(person: &Person, needs: Needs) -> Option<ProblemCode> {
        person.must_meet(needs, None).err().map(|problem| problem.code)
    }

    #[test]
    fn whoever_has_something_to_do_first_does_nothing_else() {
        let waiting = person(&Right::ALL, "datacenter", |person| person.info.code_needed = true);
        let new = person(&Right::ALL, "datacenter", |person| person.info.must_change_password = true);
        let (people, right) = (Needs::Right(Right::ManagePeople), Needs::Right(Right::See));
        for needs in [Needs::Session, Needs::Person, Needs::SignedIn, people, right] {
            assert_eq!(code(&waiting, needs), Some(ProblemCode::CodeNeeded), "{needs:?}");
            let is_for_new = needs == Needs::Session;
            assert_eq!(
                code(&new, needs),
                (!is_for_new).then_some(ProblemCode::PasswordChangeNeeded),
                "{needs:?}"
            );
        }
        assert_eq!(code(&waiting, Needs::Begun), None);
    }

    #[test]
    fn a_program_does_not_do_what_a_person_does_for_themselves() {
        let program = person(&Right::ALL, "datacenter", |person| person.is_program = true);
        assert_eq!(code(&program, Needs::Person), Some(ProblemCode::Forbidden));
        assert_eq!(code(&program, Needs::Session), Some(ProblemCode::Forbidden));
        assert_eq!(code(&program, Needs::Right(Right::ManagePeople)), None);
    }

    #[test]
    fn a_right_on_one_host_is_for_that_host() {
        let (here, there) = ("0000000000000001", "0000000000000002");
        let person = person(&[Right::See, Right::OperateHosts], &format!("host/{here}"), |_| {});
        let on = |host: &str| Place::from(Scope::Host(host.into()));
        let operate = Needs::Right(Right::OperateHosts);
        assert!(person.must_meet(operate, Some(on(here))).is_ok());
        assert!(person.must_meet(operate, Some(on(there))).is_err());
        assert!(person.must_meet(operate, None).is_err());
        assert!(person.must_meet(Needs::Right(Right::See), None).is_ok());
        assert!(person.must_meet(Needs::Right(Right::SeeActivity), None).is_err());
    }
}
