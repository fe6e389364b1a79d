//! What the guests of machines are told when they start for the first time: kept as it was asked for, but for the password,
//! of which only that is kept with which it is checked.

use quantix_api::{CloudInit, Problem, ProblemCode, VmSpec};
use quantix_compute::{CloudInit as Told, PasswordHash, Texts, VmId, hash_password, seed};
use quantix_storage::Failed;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{
    checks::invalid,
    kept::{self, unreadable},
};
use crate::{api::Agent, cluster::Refused};

/// The pool in which every host has what its guests are told, and their memory of other moments.
pub(crate) const POOL: &str = "local";

/// What a guest is told, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// Without a password.
    asked: CloudInit,
    password: Option<PasswordHash>,
    /// Counts the changes.
    number: u64,
}

impl Kept {
    /// What is to be kept of what somebody asks for, instead of what was kept before.
    pub(crate) fn of(asked: CloudInit, before: Option<&Self>) -> Result<Self, Problem> {
        let mut asked = CloudInit { user_data: asked.user_data.replace("\r\n", "\n"), ..asked };
        let password =
            match asked.password.take() {
                Some(password) => Some(hash_password(password.expose()).map_err(|why| {
                    Problem::new(ProblemCode::Invalid, why.to_string()).in_field("password")
                })?),
                None if asked.keep_password => before.and_then(|before| before.password.clone()),
                None => None,
            };
        asked.keep_password = password.is_some();
        Ok(Self { asked, password, number: before.map_or(0, |before| before.number) + 1 })
    }

    /// As whom somebody gets in if nobody says it.
    pub(crate) fn usual_user(&mut self, user: &str) {
        if self.asked.user.is_empty() && self.asked.lets_in() {
            user.clone_into(&mut self.asked.user);
        }
    }

    /// The same for a machine that begins as this one: what is its own, as its name and its addresses, is not.
    pub(crate) fn for_another(self) -> Self {
        let asked = CloudInit { hostname: String::new(), network: Vec::new(), ..self.asked };
        Self { asked, number: 1, ..self }
    }

    /// As it is told to people.
    pub(crate) fn shown(self) -> CloudInit {
        self.asked
    }

    /// As it is told in the audit log: what somebody wrote into user-data may be a secret.
    pub(crate) fn told(&self) -> CloudInit {
        let user_data = if self.asked.user_data.is_empty() { "" } else { "…" }.to_owned();
        CloudInit { user_data, ..self.asked.clone() }
    }

    /// The texts for the guest.
    pub(crate) fn draw(&self, id: VmId, spec: &VmSpec) -> Result<Texts, Problem> {
        let told = Told::asked(&self.asked, self.password.as_ref(), self.number, id, spec);
        let texts = told.and_then(|told| told.draw());
        texts.map_err(|flaw| {
            let field = flaw.field.trim_start_matches("access.");
            Problem::new(ProblemCode::Invalid, flaw.sentence).in_field(field)
        })
    }
}

/// What the guest of a machine is told.
pub(crate) fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Kept>> {
    let found: Option<String> = connection
        .prepare_cached("SELECT cloud_init FROM vm WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?
        .flatten();
    found.map(|text| serde_json::from_str(&text).map_err(unreadable)).transpose()
}

/// Keeps what the guest of a machine is told, or that it is told nothing.
pub(crate) fn keep(connection: &Connection, vm: &kept::Kept, told: Option<&Kept>) -> Result<(), Refused> {
    if let Some(told) = told {
        told.draw(vm.id, &vm.spec)?;
    }
    connection.execute(
        "UPDATE vm SET cloud_init = ?2, described = described + 1, version = version + 1 WHERE id = ?1",
        params![vm.id.to_string(), told.map(kept::text)],
    )?;
    Ok(())
}

/// Checks what the guest of a machine that is made is told, and gives its text.
pub(super) fn checked(told: Option<&Kept>, id: VmId, spec: &VmSpec) -> Result<Option<String>, Refused> {
    let Some(told) = told else { return Ok(None) };
    match told.draw(id, spec) {
        Ok(_) => Ok(Some(kept::text(told))),
        Err(problem) => {
            let field = problem.field.as_deref().unwrap_or_default();
            Err(invalid(format!("cloud_init.{field}"), problem.detail.clone()))
        }
    }
}

impl Agent {
    /// Has on this host what the guest of a machine is told, or has it no more: where, if there is something.
    pub(super) async fn keep_seed(&self, vm: &kept::Kept) -> Result<Option<std::path::PathBuf>, String> {
        let pool = self.directory(POOL);
        if !vm.has_cloud_init {
            return self.remove_seed(vm.id, false).await.map(|()| None);
        }
        let id = vm.id.to_string();
        let found = self.cluster.read(move |connection| find(connection, &id)).await;
        let Some(told) = found.map_err(|problem| problem.detail)? else { return Ok(None) };
        let texts = told.draw(vm.id, &vm.spec).map_err(|problem| problem.detail)?;
        pool.keep_seed(vm.id, seed(&texts)).await.map_err(|failed| failed.to_string())?;
        Ok(Some(pool.seed(vm.id)))
    }

    /// Where what the guest of a machine is told would be.
    pub(super) fn seed_of(&self, vm: &kept::Kept) -> Option<std::path::PathBuf> {
        vm.has_cloud_init.then(|| self.directory(POOL).seed(vm.id))
    }

    /// Forgets on this host what the guest of a machine was told.
    pub(crate) async fn forget_seed(&self, id: VmId) -> Result<(), String> {
        let vm = self.own_vm(id).await?;
        self.remove_seed(id, vm.is_some_and(|vm| vm.has_cloud_init)).await
    }

    /// Of a machine whose guest is told nothing there is nothing in a pool that is away.
    async fn remove_seed(&self, id: VmId, is_told: bool) -> Result<(), String> {
        match self.directory(POOL).remove_seed(id).await {
            Err(Failed::Missing(_)) if !is_told => Ok(()),
            removed => removed.map_err(|failed| failed.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quantix_api::Secret;

    use super::*;
    use crate::vms::kept::tests::{add_one, new, with_host};

    fn asked() -> CloudInit {
        CloudInit { user: "ops".into(), password: Some(Secret::new("open sesame")), ..CloudInit::default() }
    }

    #[test]
    fn a_password_is_never_kept_and_stays_until_another_comes() {
        let first = Kept::of(asked(), None).unwrap();
        assert!(first.clone().shown().keep_password && first.clone().shown().password.is_none());
        let text = serde_json::to_string(&first).unwrap();
        assert!(text.contains("$6$") && !text.contains("sesame"), "{text}");
        let again = Kept::of(first.clone().shown(), Some(&first)).unwrap();
        assert_eq!((&again.password, again.number), (&first.password, 2));
        let without =
            Kept::of(CloudInit { keep_password: false, ..first.clone().shown() }, Some(&first)).unwrap();
        assert_eq!((without.password.clone(), without.shown().keep_password), (None, false));
        // Nobody has a password that was never said.
        assert_eq!(Kept::of(first.shown(), None).unwrap().password, None);
        let long = CloudInit { password: Some(Secret::new("a".repeat(500))), ..asked() };
        assert_eq!(Kept::of(long, None).unwrap_err().field.as_deref(), Some("password"));
        let secret = CloudInit { user_data: "#cloud-config\npassword: $6$x".into(), ..asked() };
        assert_eq!(Kept::of(secret, None).unwrap().told().user_data, "…");
    }

    #[test]
    fn a_machine_is_made_with_it_or_not_at_all() {
        let connection = with_host();
        let vm =
            add_one(&connection, &quantix_api::NewVm { cloud_init: Some(asked()), ..new("web-01") }).unwrap();
        assert!(vm.has_cloud_init);
        let id = vm.id.to_string();
        let told = find(&connection, &id).unwrap().unwrap();
        assert!(told.draw(vm.id, &vm.spec).unwrap().user_data().contains("ops"));
        keep(&connection, &vm, None).unwrap();
        assert_eq!(find(&connection, &id).unwrap(), None);
        let without = CloudInit { user: String::new(), ..asked() };
        let refused =
            add_one(&connection, &quantix_api::NewVm { cloud_init: Some(without), ..new("web-02") });
        let Err(Refused::Problem(problem)) = refused else { panic!("it was made") };
        assert_eq!(problem.field.as_deref(), Some("cloud_init.user"));
    }
}
