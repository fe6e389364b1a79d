//! The daemons Quantix stands on, each asked over its own socket.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use openvswitch_ovsdb::{Client, Error};
use quantix_api::Service;
use serde_json::{Value, json};

/// For one service, however many questions it is asked.
const LIMIT: Duration = Duration::from_secs(4);

type Answer = Result<String, String>;
/// Asks a daemon for its version.
pub type Asked = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// Asks all of them at once.
pub(crate) async fn services(root: &Path, libvirt: impl Future<Output = Answer>) -> Vec<Service> {
    let ovs = root.join("run/openvswitch");
    let ovn = root.join("run/ovn");
    let (libvirt, switch, northbound, southbound, northd, controller) = tokio::join!(
        within_limit(libvirt),
        within_limit(switch(&ovs)),
        within_limit(database(ovn.join("ovnnb_db.sock"), "OVN_Northbound", "NB_Global")),
        within_limit(database(ovn.join("ovnsb_db.sock"), "OVN_Southbound", "SB_Global")),
        within_limit(daemon(&ovn, "ovn-northd")),
        within_limit(controller(&ovn)),
    );
    vec![
        service("libvirt", "libvirt", libvirt),
        service("open-vswitch", "Open vSwitch", switch),
        service("ovn-northbound", "OVN northbound database", northbound),
        service("ovn-southbound", "OVN southbound database", southbound),
        service("ovn-northd", "OVN northd", northd),
        service("ovn-controller", "OVN controller", controller),
    ]
}

async fn within_limit(probe: impl Future<Output = Answer>) -> Answer {
    let hangs = |_| Err(format!("no answer within {} seconds", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, probe).await.unwrap_or_else(hangs)
}

fn service(name: &str, title: &str, answer: Answer) -> Service {
    let (version, error) = match answer {
        Ok(version) => (Some(version), None),
        Err(error) => (None, Some(error)),
    };
    Service { name: name.to_owned(), title: title.to_owned(), version, error }
}

/// The switch is its database and its daemon; both must answer.
async fn switch(run: &Path) -> Answer {
    let select = json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["ovs_version"]});
    let asked = async {
        let mut client = Client::connect(run.join("db.sock"), LIMIT).await?;
        client.transact("Open_vSwitch", vec![select]).await
    };
    let results = asked.await.map_err(|error| sentence(&error))?;
    daemon(run, "ovs-vswitchd").await?;
    let version = results.first().and_then(|result| result.pointer("/rows/0/ovs_version")?.as_str());
    version.map(str::to_owned).ok_or_else(|| "its database has no version yet".to_owned())
}

async fn database(socket: PathBuf, name: &str, table: &str) -> Answer {
    let select = json!({"op": "select", "table": table, "where": [], "columns": ["options"]});
    let asked = async {
        let mut client = Client::connect(&socket, LIMIT).await?;
        client.transact(name, vec![select]).await
    };
    let results = asked.await.map_err(|error| sentence(&error))?;
    let options =
        results.first().and_then(|result| result.pointer("/rows/0/options")?.as_array()?.get(1)?.as_array());
    let version = options.into_iter().flatten().find_map(|pair| match pair.as_array()?.as_slice() {
        [key, version] if key == "northd_internal_version" => version.as_str(),
        _ => None,
    });
    // northd writes its version there in its first moments; the database answers before.
    Ok(version.map_or_else(|| "ready".to_owned(), |version| short(version).to_owned()))
}

async fn controller(run: &Path) -> Answer {
    let status = call(run, "ovn-controller", "connection-status").await?;
    match status.trim() {
        "connected" => daemon(run, "ovn-controller").await,
        other => Err(format!("it is {other} from its database")),
    }
}

/// A daemon's version, from its control socket: `ovs-vswitchd (Open vSwitch) 3.5.0`.
async fn daemon(run: &Path, name: &str) -> Answer {
    let version = call(run, name, "version").await?;
    let first = version.lines().next().unwrap_or_default();
    Ok(first.split_whitespace().next_back().unwrap_or("unknown").to_owned())
}

async fn call(run: &Path, name: &str, method: &str) -> Answer {
    let socket = control_socket(run, name)?;
    let asked = async { Client::connect(socket, LIMIT).await?.call(method, json!([])).await };
    match asked.await {
        Ok(Value::String(text)) => Ok(text),
        Ok(other) => Err(format!("it answered {other}")),
        Err(error) => Err(sentence(&error)),
    }
}

/// A daemon's control socket carries its pid, which its pid file holds.
fn control_socket(run: &Path, name: &str) -> Result<PathBuf, String> {
    let pid = std::fs::read_to_string(run.join(format!("{name}.pid")))
        .map_err(|_| "it is not running".to_owned())?;
    let pid: u32 = pid.trim().parse().map_err(|_| "its pid file is damaged".to_owned())?;
    Ok(run.join(format!("{name}.{pid}.ctl")))
}

fn short(internal_version: &str) -> &str {
    internal_version.split('-').next().unwrap_or(internal_version)
}

fn sentence(error: &Error) -> String {
    match error {
        Error::Io(error) if error.kind() == std::io::ErrorKind::NotFound => "it is not running".to_owned(),
        Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "it is not running".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn daemons_that_are_not_there_are_named_each_with_the_reason() {
        let empty = tempfile::tempdir().unwrap();
        let services = services(empty.path(), async { Err("nobody is asked".to_owned()) }).await;
        assert_eq!(services.len(), 6);
        assert!(services.iter().all(|service| service.version.is_none() && service.error.is_some()));
        assert_eq!(services[1].error.as_deref(), Some("it is not running"));
    }

    #[tokio::test]
    async fn daemons_that_take_a_call_and_say_nothing_are_given_up_together() {
        let root = tempfile::tempdir().unwrap();
        let mut silent = Vec::new();
        for path in [
            "run/openvswitch/db.sock",
            "run/ovn/ovnnb_db.sock",
            "run/ovn/ovnsb_db.sock",
            "run/ovn/ovn-northd.9.ctl",
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            silent.push(tokio::net::UnixListener::bind(path).unwrap());
        }
        std::fs::write(root.path().join("run/ovn/ovn-northd.pid"), "9\n").unwrap();
        let start = tokio::time::Instant::now();
        let services = services(root.path(), async { Err("nobody is asked".to_owned()) }).await;
        assert!(start.elapsed() <= LIMIT * 2, "{:?}", start.elapsed());
        for name in ["open-vswitch", "ovn-northbound", "ovn-southbound", "ovn-northd"] {
            let service = services.iter().find(|service| service.name == name).unwrap();
            assert_eq!(service.error.as_deref(), Some("no answer within 4 seconds"), "{name}");
        }
    }

    #[test]
    fn northds_internal_version_is_shown_by_its_first_part() {
        assert_eq!(short("25.03.1-20.41.0-78.8"), "25.03.1");
    }
}
