//! What is looked at before anything is kept of a machine.

use quantix_api::{Problem, ProblemCode, VmPolicy, VmSpec, text::is_line};
use quantix_compute::check;
use quantix_store::HostId;
use rand::Rng;
use rusqlite::{Connection, OptionalExtension, params};

use super::kept::Kept;
use crate::{
    cluster::Refused,
    storage::{images, volumes},
};

const MOST_LABELS: usize = 32;
const LONGEST_LABEL: usize = 63;
const LONGEST_DELAY: u16 = 3600;
const LONGEST_OWNER: usize = 128;

pub(super) fn invalid(field: impl AsRef<str>, sentence: impl Into<String>) -> Refused {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field.as_ref()).into()
}

pub(super) fn check_policy(policy: &VmPolicy) -> Result<(), Refused> {
    if policy.boot_delay > LONGEST_DELAY {
        let sentence = format!("At most {LONGEST_DELAY} seconds are waited.");
        return Err(invalid("policy.boot_delay", sentence));
    }
    if !(policy.owner.is_empty() || is_line(&policy.owner, LONGEST_OWNER)) {
        let sentence = format!("The name of an account is a line of at most {LONGEST_OWNER} characters.");
        return Err(invalid("policy.owner", sentence));
    }
    if policy.labels.len() > MOST_LABELS {
        return Err(invalid("policy.labels", format!("A machine has at most {MOST_LABELS} labels.")));
    }
    for (key, value) in &policy.labels {
        let is_key = !key.is_empty()
            && key.len() <= LONGEST_LABEL
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_key || !(value.is_empty() || is_line(value, LONGEST_LABEL)) {
            let sentence = format!(
                "A label is a name of letters, digits, dots and dashes with a value, each of at most {LONGEST_LABEL} characters."
            );
            return Err(invalid("policy.labels", sentence));
        }
    }
    Ok(())
}

impl Kept {
    /// Refuses to start what stays as it is.
    pub(crate) fn must_be_no_template(&self) -> Result<(), Problem> {
        if !self.policy.template {
            return Ok(());
        }
        let sentence = "It is a template, and stays as it is. Clone it, or let it be a machine again.";
        Err(Problem::new(ProblemCode::Conflict, sentence))
    }

    /// Refuses to remove what somebody has protected.
    pub(crate) fn must_not_be_protected(&self) -> Result<(), Problem> {
        if !self.policy.protected {
            return Ok(());
        }
        let sentence = "It is protected from being removed. Take the protection away first.";
        Err(Problem::new(ProblemCode::Conflict, sentence))
    }
}

/// Checks what a machine shall be, and gives an address to each card that has none.
pub(super) fn checked(
    connection: &Connection,
    spec: &VmSpec,
    but: &str,
    host: HostId,
) -> Result<VmSpec, Refused> {
    let mut spec = VmSpec { description: spec.description.replace("\r\n", "\n"), ..spec.clone() };
    for nic in spec.nics.iter_mut().filter(|nic| nic.mac.is_empty()) {
        nic.mac = free_mac(connection)?;
    }
    check(&spec).map_err(|flaw| invalid(format!("spec.{}", flaw.field), flaw.sentence))?;
    volumes::check_disks(connection, &spec.disks, but, host)?;
    for (at, cd) in spec.cds.iter().enumerate() {
        if let Some(image) = &cd.image {
            let field = format!("spec.cds.{at}.image");
            images::check_cd(connection, image, host).map_err(|problem| problem.in_field(&field))?;
        }
    }
    for (at, nic) in spec.nics.iter().enumerate() {
        if let Some(other) = with_mac(connection, &nic.mac, but)? {
            let sentence = format!("{other} has a network card with this address.");
            return Err(invalid(format!("spec.nics.{at}.mac"), sentence));
        }
    }
    Ok(spec)
}

/// The machine that has a card with an address.
fn with_mac(connection: &Connection, mac: &str, but: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached(
            "SELECT vm.name FROM vm, json_each(vm.spec, '$.nics') AS nic
             WHERE lower(nic.value ->> 'mac') = lower(?1) AND vm.id <> ?2",
        )?
        .query_row([mac, but], |row| row.get(0))
        .optional()
}

fn free_mac(connection: &Connection) -> rusqlite::Result<String> {
    loop {
        let [a, b, c]: [u8; 3] = rand::rng().random();
        // QEMU's own prefix.
        let mac = format!("52:54:00:{a:02x}:{b:02x}:{c:02x}");
        if with_mac(connection, &mac, "")?.is_none() {
            return Ok(mac);
        }
    }
}

pub(super) fn name_must_be_free(
    connection: &Connection,
    name: &str,
    folder: Option<i64>,
    but: &str,
) -> Result<(), Refused> {
    let is_taken = connection
        .prepare_cached("SELECT 1 FROM vm WHERE name = ?1 COLLATE NOCASE AND folder IS ?2 AND id <> ?3")?
        .exists(params![name, folder, but])?;
    if is_taken {
        return Err(invalid("spec.name", format!("There is a machine named {name} in this folder already.")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quantix_api::{ChangeVm, NewFolder, NewVm, VmNic};

    use super::*;
    use crate::{
        version::Version,
        vms::{
            folders,
            kept::{
                change,
                tests::{add_one, field, machine, new, spec, with_host},
            },
        },
    };

    #[test]
    fn a_name_is_taken_once_in_each_folder() {
        let (connection, id) = machine("web-01");
        assert_eq!(field(add_one(&connection, &new("WEB-01"))).as_deref(), Some("spec.name"));
        let folder = folders::make(&connection, &NewFolder { name: "a".into(), parent: None }).unwrap();
        let there = NewVm { folder: Some(folder.id), ..new("WEB-01") };
        add_one(&connection, &there).unwrap();
        let into = ChangeVm { folder: Some(Some(folder.id)), ..ChangeVm::default() };
        assert_eq!(field(change(&connection, &id, &into, Version::ANY)).as_deref(), Some("spec.name"));
        assert_eq!(
            field(add_one(&connection, &NewVm { folder: Some(99), ..new("x") })).as_deref(),
            Some("folder")
        );
    }

    #[test]
    fn a_card_without_an_address_gets_one_that_no_other_has() {
        let connection = with_host();
        let card = |mac: &str| VmNic { bridge: "br-int".into(), mac: mac.into(), model: None };
        let with = |name: &str, nics| NewVm { spec: VmSpec { nics, ..spec(name) }, ..new(name) };
        let made = add_one(&connection, &with("a", vec![card(""), card("")])).unwrap();
        let macs: Vec<_> = made.spec.nics.iter().map(|nic| nic.mac.clone()).collect();
        assert!(macs[0].starts_with("52:54:00:") && macs[0] != macs[1]);
        let same = with("b", vec![card(&macs[1].to_uppercase())]);
        assert_eq!(field(add_one(&connection, &same)).as_deref(), Some("spec.nics.0.mac"));
    }

    #[test]
    fn a_machine_belongs_to_whom_it_says_or_to_whoever_made_it() {
        let connection = with_host();
        let made = |name: &str, owner: &str| {
            let policy = VmPolicy { owner: owner.to_owned(), ..VmPolicy::default() };
            add_one(&connection, &NewVm { policy, ..new(name) })
        };
        let theirs = made("a", "somebody else").unwrap();
        assert_eq!(theirs.policy.owner, "somebody else");
        assert_eq!(made("b", "").unwrap().policy.owner, "ada");
        for wrong in ["a\nb", &*"a".repeat(129)] {
            assert_eq!(field(made("c", wrong)).as_deref(), Some("policy.owner"), "{wrong:?}");
        }
    }

    #[test]
    fn labels_are_names_with_values() {
        let connection = with_host();
        let with = |key: &str, value: &str| {
            let labels = [(key.to_owned(), value.to_owned())].into();
            let policy = VmPolicy { labels, ..VmPolicy::default() };
            field(add_one(&connection, &NewVm { policy, ..new(&format!("{}", rand::random::<u32>())) }))
        };
        assert_eq!(with("team", "web & more"), None);
        assert_eq!(with("team", ""), None);
        for (key, value) in [("", "x"), ("a b", "x"), ("a", "x\ny"), (&*"a".repeat(64), "x")] {
            assert_eq!(with(key, value).as_deref(), Some("policy.labels"), "{key:?}");
        }
    }
}
