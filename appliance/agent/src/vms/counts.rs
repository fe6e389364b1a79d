//! How many machines there are, and which are meant by a word that is wider than a state.

use quantix_api::{Scope, VmCounts};
use rusqlite::{Connection, types::Value as Sql};

use super::{
    folders,
    kept::{FROM, state_in_sql},
};

/// The words.
pub(crate) const NAMES: [&str; 4] = ["on", "off", "attention", "template"];

const IS_TEMPLATE: &str = "coalesce(vm.policy ->> 'template', 0)";
const IS_ON: &str = concat!("(", state_in_sql!(), ") IN ('starting', 'running', 'paused', 'stopping')");
const IS_OFF: &str = concat!(
    "NOT coalesce(vm.policy ->> 'template', 0) AND (",
    state_in_sql!(),
    ") IN ('stopped', 'suspended', 'crashed')"
);
/// What its page shows in red or asks about.
const NEEDS_ATTENTION: &str = concat!(
    "(",
    state_in_sql!(),
    ") IN ('crashed', 'unknown')
     OR coalesce(seen.more ->> '$.cannot_write', 0)
     OR coalesce(seen.more ->> '$.trouble', '') <> ''
     OR coalesce(json_array_length(seen.more, '$.drift'), 0) > 0
     OR vm.id IN (SELECT volume.vm FROM pool_seen JOIN volume ON volume.pool = pool_seen.pool
                  AND volume.host = pool_seen.host WHERE pool_seen.state = 'missing')
     OR (NOT vm.is_wanted_on AND task.id IS NULL AND seen.state = 'running')
     OR (vm.is_wanted_on AND task.id IS NULL AND coalesce(seen.state, 'stopped') = 'stopped'
         AND NOT coalesce(vm.policy ->> 'template', 0))"
);

/// What one of the words stands for, in SQL.
pub(crate) fn condition(name: &str) -> Option<&'static str> {
    match name {
        "on" => Some(IS_ON),
        "off" => Some(IS_OFF),
        "attention" => Some(NEEDS_ATTENTION),
        "template" => Some(IS_TEMPLATE),
        _ => None,
    }
}

/// How many there are. Whoever may not see everything is told of what is in `seen`.
pub(crate) fn of(connection: &Connection, seen: Option<&[Scope]>) -> rusqlite::Result<VmCounts> {
    let (is_seen, value) = match seen {
        Some(seen) => folders::of_vms(connection, seen)?,
        None => ("?", Sql::Integer(1)),
    };
    let sums = NAMES.map(|name| {
        let condition = condition(name).unwrap_or("0");
        format!("count(*) FILTER (WHERE {condition})")
    });
    connection
        .prepare_cached(&format!("SELECT count(*), {} FROM {FROM} WHERE {is_seen}", sums.join(", ")))?
        .query_row([value], |row| {
            Ok(VmCounts {
                all: row.get(0)?,
                on: row.get(1)?,
                off: row.get(2)?,
                attention: row.get(3)?,
                template: row.get(4)?,
            })
        })
}

#[cfg(test)]
mod tests {
    use quantix_api::{NewFolder, NewVm, VmPolicy, VmQuery, VmState};

    use super::*;
    use crate::{
        cluster,
        list::Asked,
        vms::{
            kept::{
                self, TABLE,
                tests::{HOST, add_one, new, with_host},
            },
            sighting::{More, Sighting, take},
        },
    };

    fn is_seen(connection: &Connection, vm: &kept::Kept, state: VmState, more: More) {
        let sighting = Sighting { vm: vm.id.to_string(), state, more };
        take(connection, HOST, &sighting, 1000).unwrap();
    }

    fn listed(connection: &Connection, state: &str, seen: Option<&[Scope]>) -> Vec<String> {
        let asked = Asked::of(&quantix_api::ListQuery::default(), &TABLE).unwrap();
        let query = VmQuery { state: Some(state.to_owned()), ..VmQuery::default() };
        let page = kept::list(connection, &asked, &query, seen, &[]).unwrap();
        page.items.into_iter().map(|vm| vm.spec.name).collect()
    }

    #[test]
    fn machines_are_counted_as_the_list_shows_them() {
        let connection = with_host();
        assert_eq!(of(&connection, None).unwrap(), VmCounts::default());
        let folder = folders::make(&connection, &NewFolder { name: "Web".into(), parent: None });
        let folder = folder.unwrap().id;
        let template = VmPolicy { template: true, ..VmPolicy::default() };
        let add = |name: &str| add_one(&connection, &NewVm { folder: Some(folder), ..new(name) }).unwrap();
        add_one(&connection, &NewVm { policy: template, ..new("golden") }).unwrap();
        let [runs, full, drifted, crashed, suspended] =
            ["runs", "full", "drifted", "crashed", "suspended"].map(add);
        let wanted = add_one(&connection, &new("wanted")).unwrap();
        let unwanted = add("unwanted");
        kept::want(&connection, &wanted.id.to_string(), true).unwrap();
        kept::want(&connection, &runs.id.to_string(), true).unwrap();
        is_seen(&connection, &unwanted, VmState::Running, More::default());
        is_seen(&connection, &runs, VmState::Running, More::default());
        is_seen(&connection, &full, VmState::Paused, More { cannot_write: true, ..More::default() });
        let drift = More { drift: vec!["Memory differs.".into()], ..More::default() };
        is_seen(&connection, &drifted, VmState::Stopped, drift);
        is_seen(&connection, &crashed, VmState::Crashed, More::default());
        is_seen(&connection, &suspended, VmState::Suspended, More::default());

        let all = of(&connection, None).unwrap();
        assert_eq!(all, VmCounts { all: 8, on: 3, off: 4, attention: 5, template: 1 });
        assert_eq!(listed(&connection, "on", None), ["full", "runs", "unwanted"]);
        assert_eq!(listed(&connection, "off", None), ["crashed", "drifted", "suspended", "wanted"]);
        assert_eq!(
            listed(&connection, "attention", None),
            ["crashed", "drifted", "full", "unwanted", "wanted"]
        );
        assert_eq!(listed(&connection, "template", None), ["golden"]);
        assert_eq!(listed(&connection, "paused", None), ["full"]);

        // Whoever sees a folder is told of what is in it.
        let seen = [Scope::Folder(folder)];
        let some = of(&connection, Some(&seen)).unwrap();
        assert_eq!(some, VmCounts { all: 6, on: 3, off: 3, attention: 4, template: 0 });
        assert_eq!(listed(&connection, "attention", Some(&seen)), ["crashed", "drifted", "full", "unwanted"]);
        assert_eq!(of(&connection, Some(&[])).unwrap(), VmCounts::default());

        // With a host that is lost nobody knows of anything.
        cluster::kept::note_lost(&connection, HOST, Some(1)).unwrap();
        assert_eq!(
            of(&connection, None).unwrap(),
            VmCounts { all: 8, on: 0, off: 0, attention: 8, template: 1 }
        );
    }
}
