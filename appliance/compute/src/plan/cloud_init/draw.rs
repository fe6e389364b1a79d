//! Draws what a guest is told.

use serde_json::{Map, Value, json};

use super::{
    CloudInit, Texts, UserData, emit, flaw, is_domain, is_label, merge, network, schema, seed, theirs,
};
use crate::model::{access::Access, check::Flaw};

const LONGEST_INSTANCE_ID: usize = 128;
/// Of each text.
const LONGEST_TEXT: usize = 384 * 1024;
const _: () = assert!(4 * LONGEST_TEXT <= seed::ROOM);

const GUEST_AGENT: &str = "qemu-guest-agent";
/// Where installing it starts nothing. The guest runs this, and no word of anybody's is in it.
const START_AGENT: &str = "systemctl start qemu-guest-agent || service qemu-guest-agent start || true";

impl CloudInit {
    /// Draws the texts for the volume. The same is drawn each time.
    pub fn draw(&self) -> Result<Texts, Flaw> {
        self.check_names()?;
        if let Some(access) = &self.access {
            access.check()?;
        }
        let vendor = self.vendor_data();
        let user_data = match &self.user_data {
            None => emit::cloud_config(&Value::Object(self.own())),
            Some(UserData::Merged(text)) => self.merged(text, &vendor)?,
            Some(UserData::Replacing(_)) if self.access.is_some() => {
                return flaw(
                    "user_data",
                    "User-data that replaces ours lets in whom it says, and the access given here would do nothing. Leave one of them out.",
                );
            }
            Some(UserData::Replacing(text)) => theirs::check(text).map(|()| text.clone())?,
        };
        let texts = Texts {
            user_data,
            meta_data: emit::json(&self.meta_data()),
            network_config: network::draw(&self.network)?.as_ref().map(emit::json),
            vendor_data: (!vendor.is_empty()).then(|| emit::cloud_config(&Value::Object(vendor))),
        };
        let largest = texts.files().map(|(.., text)| text.len()).max();
        if largest > Some(LONGEST_TEXT) {
            return flaw("user_data", format!("Together this is more than {} KiB.", LONGEST_TEXT / 1024));
        }
        Ok(texts)
    }

    fn check_names(&self) -> Result<(), Flaw> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let id = &self.instance_id;
        if id.is_empty() || id.len() > LONGEST_INSTANCE_ID || !id.bytes().all(is_plain) {
            return flaw(
                "instance_id",
                format!("An instance id is at most {LONGEST_INSTANCE_ID} letters, digits and dashes."),
            );
        }
        if !is_label(&self.hostname) {
            return flaw(
                "hostname",
                "A host name is at most 63 letters, digits and dashes, with no dash at an end.",
            );
        }
        if self.domain.as_deref().is_some_and(|domain| !is_domain(domain)) || !is_domain(&self.full_name()) {
            return flaw(
                "domain",
                "A domain is names of letters, digits and dashes, with dots between; with the host name, at most 253 characters.",
            );
        }
        Ok(())
    }

    fn full_name(&self) -> String {
        match &self.domain {
            Some(domain) => format!("{}.{domain}", self.hostname),
            None => self.hostname.clone(),
        }
    }

    /// With the full name, the machine has it where user-data says none.
    fn meta_data(&self) -> Value {
        json!({ "instance-id": self.instance_id, "local-hostname": self.full_name() })
    }

    fn own(&self) -> Map<String, Value> {
        let mut own = Map::new();
        own.insert("hostname".into(), self.hostname.as_str().into());
        if self.domain.is_some() {
            own.insert("fqdn".into(), self.full_name().into());
        }
        own.insert("manage_etc_hosts".into(), true.into());
        if let Some(access) = &self.access {
            let name = access.user.as_str();
            own.insert("users".into(), json!([user(access)]));
            own.insert("ssh_pwauth".into(), access.password.is_some().into());
            if let Some(hash) = &access.password {
                let user = json!({ "name": name, "password": hash.as_str(), "type": "hash" });
                own.insert("chpasswd".into(), json!({ "expire": false, "users": [user] }));
            }
            if access.user.is_root() {
                // Images put a command in front of root's keys that only says whom to log in as.
                own.insert("disable_root".into(), false.into());
            }
        }
        own
    }

    fn vendor_data(&self) -> Map<String, Value> {
        let mut vendor = Map::new();
        if self.package_update {
            vendor.insert("package_update".into(), true.into());
        }
        if self.install_guest_agent {
            vendor.insert("packages".into(), json!([GUEST_AGENT]));
            vendor.insert("runcmd".into(), json!([["sh", "-c", START_AGENT]]));
        }
        vendor
    }

    fn merged(&self, text: &str, vendor: &Map<String, Value>) -> Result<String, Flaw> {
        let theirs = theirs::config(text)?;
        let mut ours = self.own();
        let hidden = vendor.iter().filter(|(key, value)| value.is_array() && theirs.contains_key(*key));
        ours.extend(hidden.map(|(key, value)| (key.clone(), value.clone())));
        let merged = Value::Object(merge::merge(ours, theirs)?);
        schema::check(&merged).or_else(|what| flaw("user_data", format!("Together with ours: {what}")))?;
        Ok(emit::cloud_config(&merged))
    }
}

fn user(access: &Access) -> Value {
    let mut user = json!({ "name": access.user.as_str(), "lock_passwd": access.password.is_none() });
    if !access.ssh_keys.is_empty() {
        let keys: Vec<_> = access.ssh_keys.as_slice().iter().map(ToString::to_string).collect();
        user["ssh_authorized_keys"] = keys.into();
    }
    if !access.user.is_root() {
        let sudo = if access.sudo_without_password { "ALL=(ALL) NOPASSWD:ALL" } else { "ALL=(ALL) ALL" };
        user["sudo"] = sudo.into();
        user["shell"] = "/bin/bash".into();
        // Both may read the system's log, the one or the other of which there is.
        user["groups"] = json!(["adm", "systemd-journal"]);
    }
    user
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::access::{PasswordHash, SshKeys, UserName, tests::key},
        plan::cloud_init::{Addressing, CardNetwork, yaml},
    };

    fn hash() -> PasswordHash {
        PasswordHash::parse(&format!("$6$salt${}1", "a".repeat(85))).unwrap()
    }

    fn access(user: &str, password: bool) -> Access {
        Access {
            user: UserName::parse(user).unwrap(),
            password: password.then(hash),
            ssh_keys: vec![key(1), key(2)].try_into().unwrap(),
            sudo_without_password: !password,
        }
    }

    fn told() -> CloudInit {
        CloudInit {
            instance_id: "0190c6f4-7a10-7cc0-b2aa-0123456789ab".into(),
            hostname: "web-01".into(),
            domain: Some("example.com".into()),
            access: Some(access("ops", true)),
            network: vec![CardNetwork { mac: "52:54:00:00:00:01".into(), addressing: Addressing::Dhcp }],
            install_guest_agent: true,
            package_update: true,
            user_data: None,
        }
    }

    fn read(text: &str) -> Value {
        assert!(text.starts_with("#cloud-config\n"), "{text}");
        yaml::read(text).unwrap()
    }

    #[test]
    fn a_machine_with_a_user_who_has_a_password_and_keys() {
        let texts = told().draw().unwrap();
        let expected = json!({
            "hostname": "web-01",
            "fqdn": "web-01.example.com",
            "manage_etc_hosts": true,
            "users": [{
                "name": "ops",
                "groups": ["adm", "systemd-journal"],
                "shell": "/bin/bash",
                "sudo": "ALL=(ALL) ALL",
                "lock_passwd": false,
                "ssh_authorized_keys": [key(1).to_string(), key(2).to_string()],
            }],
            "ssh_pwauth": true,
            "chpasswd": {
                "expire": false,
                "users": [{ "name": "ops", "password": hash().as_str(), "type": "hash" }],
            },
        });
        assert_eq!(read(texts.user_data()), expected);
        let expected = json!({
            "instance-id": "0190c6f4-7a10-7cc0-b2aa-0123456789ab",
            "local-hostname": "web-01.example.com",
        });
        assert_eq!(serde_json::from_str::<Value>(texts.meta_data()).unwrap(), expected);
        let expected = json!({
            "package_update": true,
            "packages": ["qemu-guest-agent"],
            "runcmd": [["sh", "-c", START_AGENT]],
        });
        assert_eq!(read(texts.vendor_data().unwrap()), expected);
        assert!(texts.network_config().unwrap().starts_with('{'));
        assert_eq!(told().draw(), Ok(texts));
    }

    #[test]
    fn without_a_password_nobody_is_asked_for_one() {
        let drawn = |user: &str| {
            let told = CloudInit {
                domain: None,
                access: Some(access(user, false)),
                network: Vec::new(),
                install_guest_agent: false,
                package_update: false,
                ..told()
            };
            told.draw().unwrap()
        };
        let texts = drawn("ops");
        let user_data = read(texts.user_data());
        assert_eq!(user_data["users"][0]["lock_passwd"], true);
        assert_eq!(user_data["users"][0]["sudo"], "ALL=(ALL) NOPASSWD:ALL");
        assert_eq!(user_data["ssh_pwauth"], false);
        assert_eq!(user_data.get("chpasswd"), None);
        assert_eq!(user_data.get("fqdn"), None);
        assert_eq!(texts.files().map(|(name, ..)| name).collect::<Vec<_>>(), ["user-data", "meta-data"]);
        let root = read(drawn("root").user_data());
        assert_eq!(root["disable_root"], false);
        let keys = [key(1).to_string(), key(2).to_string()];
        let expected = json!({ "name": "root", "lock_passwd": true, "ssh_authorized_keys": keys });
        assert_eq!(root["users"], json!([expected]));
    }

    #[test]
    fn what_somebody_adds_hides_nothing_of_ours() {
        let text = "#cloud-config\nhostname: web-02\npackages: [nginx]\nusers:\n- default\n- name: ops\n  shell: /bin/zsh\n";
        let told = CloudInit { user_data: Some(UserData::Merged(text.into())), ..told() };
        let texts = told.draw().unwrap();
        let user_data = read(texts.user_data());
        assert_eq!(user_data["hostname"], "web-02");
        assert_eq!(user_data["packages"], json!(["qemu-guest-agent", "nginx"]));
        assert_eq!(user_data["users"][0]["shell"], "/bin/zsh");
        assert_eq!(user_data["users"][0]["ssh_authorized_keys"][0], key(1).to_string());
        assert_eq!(user_data["users"][1], "default");
        assert_eq!(user_data.get("runcmd"), None);
        assert_eq!(read(texts.vendor_data().unwrap())["packages"], json!(["qemu-guest-agent"]));
        let text = "#cloud-config\nusers: [{name: ops, ssh_redirect_user: true, snapuser: a}]\n";
        let refused = CloudInit { user_data: Some(UserData::Merged(text.into())), ..told };
        assert_eq!(refused.draw().unwrap_err().field, "user_data");
    }

    #[test]
    fn what_replaces_ours_stays_as_it_was_written() {
        let text = "#!/bin/sh\necho 'hello: [world'\n";
        let told = |access| CloudInit { access, user_data: Some(UserData::Replacing(text.into())), ..told() };
        let texts = told(None).draw().unwrap();
        assert_eq!(texts.user_data(), text);
        assert!(texts.vendor_data().unwrap().contains("qemu-guest-agent"));
        assert_eq!(told(Some(access("ops", true))).draw().unwrap_err().field, "user_data");
    }

    #[test]
    fn nothing_that_is_drawn_shows_a_hash_when_it_is_debugged() {
        let text = format!("#cloud-config\npassword: {}\n", hash().as_str());
        let told = CloudInit { user_data: Some(UserData::Merged(text)), ..told() };
        let shown = format!("{told:?} {:?}", told.draw().unwrap());
        assert!(shown.contains("web-01") && !shown.contains("$6$"), "{shown}");
    }

    #[test]
    fn what_is_too_much_together_is_refused() {
        // Three bytes of what was written are six letters of what is told.
        let aliases = ["*a"; 6].join(", ");
        let text = format!("#cloud-config\nruncmd: [&a \"{}\", {aliases}]", "\u{200b}".repeat(10_000));
        let flaw = CloudInit { user_data: Some(UserData::Merged(text)), ..told() }.draw().unwrap_err();
        assert_eq!(flaw.sentence, "Together this is more than 384 KiB.");
    }

    /// What people and programs try.
    fn hostile() -> impl Strategy<Value = String> {
        let parts = prop::sample::select(vec![
            "web",
            "-",
            ".",
            "\"",
            "'",
            "\n",
            "\r\n",
            "\t",
            "\0",
            ": ",
            "- ",
            "#",
            "${HOME}",
            "$(id)",
            "`id`",
            "!!python/object",
            "&a",
            "*a",
            "{{ x }}",
            "%",
            "\\",
            "\u{202e}",
            "\u{200f}",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "\u{ffff}",
            "\u{7f}",
            "😀",
            "#cloud-config\n",
            "users:\n- root\n",
            "\"}]}",
        ]);
        prop_oneof![
            prop::collection::vec(parts, 0..8).prop_map(|parts| parts.concat()),
            "\\PC{0,40}",
            Just("a".repeat(10_000)),
        ]
    }

    proptest! {
        #[test]
        fn no_name_is_told_otherwise_than_it_was_written(
            id in hostile(), hostname in hostile(), domain in prop::option::of(hostile()), mac in hostile(),
        ) {
            let told = CloudInit { instance_id: id.clone(), hostname, domain, ..told() };
            if let Ok(texts) = told.draw() {
                let user_data = read(texts.user_data());
                prop_assert_eq!(user_data["hostname"].as_str(), Some(told.hostname.as_str()));
                prop_assert_eq!(user_data.get("fqdn").is_some(), told.domain.is_some());
                prop_assert_eq!(user_data["users"].as_array().map(Vec::len), Some(1));
                prop_assert_eq!(&yaml::read(texts.meta_data()).unwrap()["instance-id"], &id);
            }
            let network = vec![CardNetwork { mac, addressing: Addressing::Dhcp }];
            let drawn = CloudInit { network, ..told }.draw();
            prop_assert!(drawn.is_err());
        }

        #[test]
        fn a_comment_of_a_key_stays_a_comment(comment in hostile()) {
            if let Ok(key) = format!("{} {comment}", key(3).to_string().replace(" key-3", "")).parse() {
                let ssh_keys = SshKeys::try_from(vec![key]).unwrap();
                let told = CloudInit { access: Some(Access { ssh_keys, ..access("ops", true) }), ..told() };
                let user_data = read(told.draw().unwrap().user_data());
                let keys = user_data["users"][0]["ssh_authorized_keys"].as_array().unwrap();
                prop_assert_eq!(keys.len(), 1);
                prop_assert!(keys[0].as_str().unwrap().ends_with(comment.trim_matches([' ', '\t', '\r', '\n'])));
            }
        }

        #[test]
        fn what_somebody_writes_stays_in_its_place(text in hostile()) {
            let theirs = json!({ "write_files": [{ "path": "/a", "content": text.clone() }], "final_message": text });
            let theirs = Some(UserData::Merged(emit::cloud_config(&theirs)));
            let ours = read(told().draw().unwrap().user_data());
            let mut merged = read(CloudInit { user_data: theirs, ..told() }.draw().unwrap().user_data());
            prop_assert_eq!(merged["write_files"].take(), json!([{ "path": "/a", "content": text.clone() }]));
            prop_assert_eq!(merged["final_message"].take(), json!(text));
            let map = merged.as_object_mut().unwrap();
            map.retain(|_, value| !value.is_null());
            prop_assert_eq!(merged, ours);
        }

        #[test]
        fn no_user_data_makes_drawing_fall_over(text in hostile()) {
            for header in ["", "#cloud-config\n", "#!/bin/sh\n"] {
                let text = format!("{header}{text}");
                let _ = UserData::Merged(text.clone()).check();
                let told = CloudInit { access: None, user_data: Some(UserData::Replacing(text.clone())), ..told() };
                if let Ok(texts) = told.draw() {
                    prop_assert_eq!(texts.user_data(), text);
                }
            }
        }
    }
}
