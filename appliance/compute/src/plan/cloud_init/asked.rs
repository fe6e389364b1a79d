//! What somebody asked for, in the words of the API.

use quantix_api::{CardAddresses, CloudInit as Asked, VmNic, VmSpec};

use super::{Address, Addressing, CardNetwork, CloudInit, StaticAddresses, UserData, flaw, is_label};
use crate::model::{
    access::{Access, PasswordHash, SshKeys, UserName},
    check::Flaw,
    id::VmId,
};

const LONGEST_LABEL: usize = 63;

impl CloudInit {
    /// What the guest of a machine is told. `number` counts how often that was changed: by it a guest sees that it is to do
    /// again what it does once.
    pub fn asked(
        asked: &Asked,
        password: Option<&PasswordHash>,
        number: u64,
        id: VmId,
        spec: &VmSpec,
    ) -> Result<Self, Flaw> {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let user_data = text(&asked.user_data).map(|text| {
            if asked.user_data_replaces { UserData::Replacing(text) } else { UserData::Merged(text) }
        });
        if asked.network.len() > spec.nics.len() {
            return flaw("network", "There are addresses for more network cards than the machine has.");
        }
        let cards = spec.nics.iter().enumerate();
        let network =
            cards.map(|(at, nic)| card(at, nic, asked.network.get(at))).collect::<Result<_, _>>()?;
        Ok(Self {
            instance_id: format!("{id}-{number}"),
            hostname: text(&asked.hostname).unwrap_or_else(|| hostname(id, &spec.name)),
            domain: text(&asked.domain),
            access: access(asked, password)?,
            network,
            install_guest_agent: asked.install_guest_agent,
            package_update: asked.package_update,
            user_data,
        })
    }
}

fn access(asked: &Asked, password: Option<&PasswordHash>) -> Result<Option<Access>, Flaw> {
    if asked.user.is_empty() {
        if password.is_some() || !asked.ssh_keys.is_empty() {
            return flaw("user", "Say as whom somebody gets in with this, for example as debian.");
        }
        return Ok(None);
    }
    let wrong = |field: &str, sentence: String| Flaw { field: field.to_owned(), sentence };
    let user = UserName::parse(&asked.user).map_err(|why| wrong("user", why.to_string()))?;
    let ssh_keys =
        SshKeys::parse_all(&asked.ssh_keys.join("\n")).map_err(|why| wrong("ssh_keys", why.to_string()))?;
    let sudo_without_password = asked.sudo_without_password || password.is_none();
    let access = Access { user, password: password.cloned(), ssh_keys, sudo_without_password };
    // Its fields are those of what was asked for.
    let plain = |flaw: Flaw| wrong(flaw.field.trim_start_matches("access."), flaw.sentence);
    access.check().map_err(plain)?;
    Ok(Some(access))
}

fn card(at: usize, nic: &VmNic, told: Option<&CardAddresses>) -> Result<CardNetwork, Flaw> {
    let mac = nic.mac.clone();
    let told = told.filter(|told| **told != CardAddresses::default());
    let Some(told) = told else { return Ok(CardNetwork { mac, addressing: Addressing::Dhcp }) };
    let address = |text: &String| {
        let (ip, prefix) = text.trim().split_once('/')?;
        Some(Address { ip: ip.parse().ok()?, prefix: prefix.parse().ok()? })
    };
    let mut addresses = Vec::new();
    for text in &told.addresses {
        match address(text) {
            Some(address) => addresses.push(address),
            None => {
                return flaw(
                    format!("network.{at}.addresses"),
                    "An address is written with the length of its network, as in 192.0.2.10/24.",
                );
            }
        }
    }
    let told = StaticAddresses {
        addresses,
        gateway4: told.gateway4,
        gateway6: told.gateway6,
        name_servers: told.name_servers.clone(),
        search: told.search.clone(),
    };
    Ok(CardNetwork { mac, addressing: Addressing::Static(told) })
}

/// What a machine calls itself of which nobody has said it: its name, as far as machines can be called so.
fn hostname(id: VmId, name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(plain).take(LONGEST_LABEL).collect();
    let name = name.trim_matches('-');
    if is_label(name) { name.to_owned() } else { format!("vm-{}", id.short()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::access::hash_password, plan::domain::tests::spec};

    fn told(asked: &Asked, password: Option<&str>, spec: &VmSpec) -> Result<CloudInit, Flaw> {
        let hash = password.map(|password| hash_password(password).unwrap());
        CloudInit::asked(asked, hash.as_ref(), 3, VmId::new(), spec)
    }

    #[test]
    fn what_is_left_out_is_as_one_would_expect() {
        let mut machine = spec("Web 01.example");
        machine.nics = vec![VmNic { bridge: "br-int".into(), mac: "52:54:00:00:00:01".into(), model: None }];
        let asked = Asked { user: "ops".into(), ..Asked::default() };
        let drawn = told(&asked, Some("secret"), &machine).unwrap();
        assert_eq!(drawn.hostname, "web-01-example");
        assert!(drawn.instance_id.ends_with("-3"));
        assert_eq!(drawn.network[0].addressing, Addressing::Dhcp);
        assert!(!drawn.access.as_ref().unwrap().sudo_without_password);
        drawn.draw().unwrap();
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";
        let keys = Asked { ssh_keys: vec![key.into()], ..asked.clone() };
        assert!(told(&keys, None, &machine).unwrap().access.unwrap().sudo_without_password);
        let strange = told(&asked, Some("secret"), &spec("日本語")).unwrap();
        assert!(strange.hostname.starts_with("vm-"));
    }

    #[test]
    fn what_lets_nobody_in_or_is_no_address_is_refused_beside_its_field() {
        let machine = VmSpec {
            nics: vec![VmNic { bridge: "br-int".into(), mac: "52:54:00:00:00:01".into(), model: None }],
            ..spec("web-01")
        };
        let field = |asked: Asked, password| told(&asked, password, &machine).unwrap_err().field;
        assert_eq!(field(Asked::default(), Some("secret")), "user");
        assert_eq!(field(Asked { user: "ops".into(), ..Asked::default() }, None), "ssh_keys");
        assert_eq!(field(Asked { user: "www-data".into(), ..Asked::default() }, Some("a")), "user");
        let keys = Asked { user: "ops".into(), ssh_keys: vec!["no key".into()], ..Asked::default() };
        assert_eq!(field(keys, None), "ssh_keys");
        let with = |addresses: &str| Asked {
            network: vec![CardAddresses { addresses: vec![addresses.into()], ..CardAddresses::default() }],
            ..Asked::default()
        };
        assert_eq!(field(with("192.0.2.1"), None), "network.0.addresses");
        let drawn = told(&with("192.0.2.10/24"), None, &machine).unwrap();
        assert!(drawn.draw().unwrap().network_config().unwrap().contains("192.0.2.10/24"));
        let more = Asked { network: vec![CardAddresses::default(); 2], ..Asked::default() };
        assert_eq!(field(more, None), "network");
    }
}
