//! The layers that volumes consist of, as SQL, and what is to be done with those that nobody needs.
//!
//! A volume is written to in one layer, its head. What was there when a snapshot was made, or when another volume began as
//! the same, lies below it, and is not written to any more.

use quantix_storage::{Below, VolumeId};
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::volumes::unreadable;

const SELECT: &str = "SELECT layer.id, layer.volume, layer.pool, layer.parent, layer.image, layer.bytes,
        layer.alias_of, head.id IS NOT NULL AS is_head, head.vm AS vm,
        EXISTS (SELECT 1 FROM snapshot_disk WHERE snapshot_disk.layer = layer.id) AS is_held
    FROM layer LEFT JOIN volume AS head ON head.layer = layer.id";

/// A layer as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) id: VolumeId,
    /// The volume it is a part of, while that is there.
    pub(crate) volume: Option<String>,
    pub(crate) pool: String,
    /// What it lies on.
    pub(crate) parent: Option<VolumeId>,
    pub(crate) image: Option<VolumeId>,
    pub(crate) bytes: u64,
    /// It is only another name of that layer, by which a machine that is on knows it.
    pub(crate) alias_of: Option<VolumeId>,
    /// Whether a volume is written to in it, and the machine that has that volume.
    pub(crate) is_head: bool,
    pub(crate) vm: Option<String>,
    /// Whether a snapshot has it.
    pub(crate) is_held: bool,
}

fn of_row(row: &Row<'_>) -> rusqlite::Result<Layer> {
    let id = |column: &str| {
        let text: Option<String> = row.get(column)?;
        text.map(|text| text.parse().map_err(unreadable)).transpose()
    };
    let missing = || unreadable("a layer without an id");
    Ok(Layer {
        id: id("id")?.ok_or_else(missing)?,
        volume: row.get("volume")?,
        pool: row.get("pool")?,
        parent: id("parent")?,
        image: id("image")?,
        bytes: row.get("bytes")?,
        alias_of: id("alias_of")?,
        is_head: row.get("is_head")?,
        vm: row.get("vm")?,
        is_held: row.get("is_held")?,
    })
}

/// All on a host.
pub(crate) fn on_host(connection: &Connection, host: HostId) -> rusqlite::Result<Vec<Layer>> {
    connection
        .prepare_cached(&format!("{SELECT} WHERE layer.host = ?1"))?
        .query_map([host.0], of_row)?
        .collect()
}

/// What is known of a layer that is there, or should be.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) id: VolumeId,
    pub(crate) bytes: u64,
    pub(crate) used: Option<u64>,
    pub(crate) is_missing: bool,
}

/// Those of a pool on a host whose volumes are not just being made.
pub(crate) fn in_pool(connection: &Connection, pool: &str, host: HostId) -> rusqlite::Result<Vec<Known>> {
    connection
        .prepare_cached(
            "SELECT layer.id, layer.bytes, layer.used, layer.is_missing FROM layer
             LEFT JOIN volume ON volume.id = layer.volume
             WHERE layer.pool = ?1 AND layer.host = ?2 AND layer.alias_of IS NULL
               AND coalesce(volume.state, '') <> 'making'",
        )?
        .query_map(params![pool, host.0], |row| {
            let id: String = row.get(0)?;
            let id = id.parse().map_err(unreadable)?;
            Ok(Known { id, bytes: row.get(1)?, used: row.get(2)?, is_missing: row.get(3)? })
        })?
        .collect()
}

/// Notes what a layer takes, or that it is not there; and so what its volume takes, and whether that is there.
pub(crate) fn is_seen(
    connection: &Connection,
    host: HostId,
    pool: &str,
    id: &str,
    used: Option<u64>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE layer SET used = ?4, is_missing = ?4 IS NULL WHERE id = ?1 AND pool = ?2 AND host = ?3",
        )?
        .execute(params![id, pool, host.0, used])?;
    connection
        .prepare_cached(
            "UPDATE volume SET (used, state) = (
                 SELECT sum(layer.used), CASE WHEN sum(layer.is_missing) > 0 THEN 'missing' ELSE 'ready' END
                 FROM layer WHERE layer.volume = volume.id)
             WHERE id = (SELECT volume FROM layer WHERE id = ?1) AND host = ?2 AND state <> 'making'",
        )?
        .execute(params![id, host.0])
        .map(drop)
}

/// One layer, if it is there.
pub(crate) fn find(connection: &Connection, id: VolumeId) -> rusqlite::Result<Option<Layer>> {
    connection
        .prepare_cached(&format!("{SELECT} WHERE layer.id = ?1"))?
        .query_row([id.to_string()], of_row)
        .optional()
}

/// What has a layer already: the volume of which it is a part.
pub(crate) fn owner(connection: &Connection, id: VolumeId) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached(
            "SELECT coalesce(volume.name, layer.id) FROM layer LEFT JOIN volume ON volume.id = layer.volume
             WHERE layer.id = ?1",
        )?
        .query_row([id.to_string()], |row| row.get(0))
        .optional()
}

/// A layer that is new.
#[derive(Clone, Copy, Debug)]
pub(crate) struct New<'a> {
    pub(crate) id: &'a str,
    pub(crate) volume: Option<&'a str>,
    pub(crate) pool: &'a str,
    pub(crate) host: HostId,
    pub(crate) below: Option<Below>,
    pub(crate) bytes: u64,
}

/// Adds a layer.
pub(crate) fn add(connection: &Connection, new: New<'_>) -> rusqlite::Result<()> {
    let (parent, image) = match new.below {
        None => (None, None),
        Some(Below::Layer(layer)) => (Some(layer.to_string()), None),
        Some(Below::Image(image)) => (None, Some(image.to_string())),
    };
    connection
        .prepare_cached(
            "INSERT INTO layer (id, volume, pool, host, parent, image, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![new.id, new.volume, new.pool, new.host.0, parent, image, new.bytes])
        .map(drop)
}

/// A layer stands by itself now: it was written out whole.
pub(crate) fn stands_alone(connection: &Connection, host: HostId, id: &str) -> rusqlite::Result<()> {
    connection
        .execute(
            "UPDATE layer SET parent = NULL, image = NULL WHERE id = ?1 AND host = ?2",
            params![id, host.0],
        )
        .map(drop)
}

/// A layer that nobody needs is not there any more. One that is needed stays.
pub(crate) fn is_gone(connection: &Connection, host: HostId, id: &str) -> rusqlite::Result<()> {
    connection
        .execute(
            "DELETE FROM layer WHERE id = ?1 AND host = ?2
               AND NOT EXISTS (SELECT 1 FROM volume WHERE volume.layer = ?1)
               AND NOT EXISTS (SELECT 1 FROM snapshot_disk WHERE snapshot_disk.layer = ?1)
               AND NOT EXISTS (SELECT 1 FROM layer AS above WHERE above.parent = ?1)",
            params![id, host.0],
        )
        .map(drop)
}

/// Two layers that lay on each other are one, and have the name of the upper; if so, a machine knows it by the other, too.
pub(crate) fn are_one(
    connection: &Connection,
    host: HostId,
    lower: &str,
    upper: &str,
    is_known: bool,
) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE layer SET (parent, image) = (SELECT parent, image FROM layer AS lower WHERE lower.id = ?1)
         WHERE id = ?2 AND host = ?3 AND parent = ?1",
        params![lower, upper, host.0],
    )?;
    connection.execute("UPDATE layer SET alias_of = ?2 WHERE alias_of = ?1", [lower, upper])?;
    if is_known {
        let known = "UPDATE layer SET alias_of = ?2, parent = NULL, image = NULL, volume = NULL, used = NULL
                     WHERE id = ?1 AND host = ?3";
        connection.execute(known, params![lower, upper, host.0]).map(drop)
    } else {
        is_gone(connection, host, lower)
    }
}

/// Forgets a volume's layers: its head, and that the others are its own. They stay as long as something lies on them.
pub(crate) fn forget_volume(
    connection: &Connection,
    volume: &str,
    host_is_gone: bool,
) -> rusqlite::Result<()> {
    if host_is_gone {
        return connection.execute("DELETE FROM layer WHERE volume = ?1", [volume]).map(drop);
    }
    connection.execute("UPDATE layer SET volume = NULL WHERE volume = ?1", [volume]).map(drop)
}

/// Whether something lies on a layer.
pub(crate) fn has_above(connection: &Connection, id: VolumeId) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM layer WHERE parent = ?1")?.exists([id.to_string()])
}

/// Whether something lies on the layers in which the volumes of a machine are written to.
pub(crate) fn lies_on(connection: &Connection, vm: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM volume JOIN layer AS above ON above.parent = volume.layer WHERE volume.vm = ?1",
        )?
        .exists([vm])
}

/// The volumes that lie on an image.
pub(crate) fn on_image(connection: &Connection, image: &str) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT coalesce(vm.name, volume.name, 'a volume that is gone')
             FROM layer LEFT JOIN volume ON volume.id = layer.volume LEFT JOIN vm ON vm.id = volume.vm
             WHERE layer.image = ?1 ORDER BY 1 LIMIT 5",
        )?
        .query_map([image], |row| row.get(0))?
        .collect()
}

/// What is to be done next so that no layer is there that nobody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Nothing lies on it.
    Remove(VolumeId),
    /// One layer lies on it, into which it goes.
    Merge { lower: VolumeId, upper: VolumeId },
}

/// Whether nobody needs a layer, and nothing lies on it.
pub(crate) fn is_spare(layers: &[Layer], layer: &Layer) -> bool {
    !is_needed(layers, layer) && above(layers, layer.id).next().is_none()
}

/// Whether somebody needs a layer itself, or knows one that is there by this name.
fn is_needed(layers: &[Layer], layer: &Layer) -> bool {
    let is_name = layer.alias_of.is_some_and(|real| layers.iter().any(|layer| layer.id == real));
    layer.is_head || layer.is_held || is_name
}

/// What is to be done next, as far as it touches no machine but this one.
pub(crate) fn next(layers: &[Layer], vm: &str) -> Option<Deed> {
    let mut spare = layers.iter().filter(|layer| !is_needed(layers, layer));
    spare.find_map(|layer| {
        let mut above = above(layers, layer.id);
        match (above.next(), above.next()) {
            (None, _) => Some(Deed::Remove(layer.id)),
            (Some(one), None) if is_only_of(layers, one, vm, layers.len()) => {
                Some(Deed::Merge { lower: layer.id, upper: one.id })
            }
            // Several lie on it, or another machine does: it is the same for all of them.
            _ => None,
        }
    })
}

fn above(layers: &[Layer], id: VolumeId) -> impl Iterator<Item = &Layer> {
    layers.iter().filter(move |layer| layer.parent == Some(id))
}

/// Whether every head above a layer, and the layer if it is one, is the machine's, or nobody's.
fn is_only_of(layers: &[Layer], layer: &Layer, vm: &str, deepest: usize) -> bool {
    let is_ours = !layer.is_head || layer.vm.as_deref().is_none_or(|other| other == vm);
    is_ours && deepest > 0 && above(layers, layer.id).all(|upper| is_only_of(layers, upper, vm, deepest - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(id: VolumeId, parent: Option<VolumeId>) -> Layer {
        Layer {
            id,
            volume: None,
            pool: "local".into(),
            parent,
            image: None,
            bytes: 1 << 30,
            alias_of: None,
            is_head: false,
            vm: None,
            is_held: false,
        }
    }

    fn head(id: VolumeId, parent: VolumeId, vm: &str) -> Layer {
        Layer { is_head: true, vm: Some(vm.into()), ..layer(id, Some(parent)) }
    }

    #[test]
    fn what_nobody_needs_goes_and_what_somebody_needs_stays() {
        let [a, b, c, d] = [(); 4].map(|()| VolumeId::new());
        // A chain with a snapshot in the middle.
        let chain = [layer(a, None), Layer { is_held: true, ..layer(b, Some(a)) }, head(c, b, "one")];
        assert_eq!(next(&chain, "one"), Some(Deed::Merge { lower: a, upper: b }));
        let chain = [Layer { is_held: true, ..layer(b, None) }, head(c, b, "one")];
        assert_eq!(next(&chain, "one"), None);
        // The snapshot was removed.
        let chain = [layer(b, None), head(c, b, "one")];
        assert_eq!(next(&chain, "one"), Some(Deed::Merge { lower: b, upper: c }));
        // Somebody else's machine lies on it.
        assert_eq!(next(&chain, "two"), None);
        let shared = [layer(b, None), head(c, b, "one"), head(d, b, "two")];
        assert_eq!(next(&shared, "one"), None);
        let below = [
            layer(a, None),
            Layer { is_held: true, ..layer(b, Some(a)) },
            head(c, b, "one"),
            head(d, b, "two"),
        ];
        assert_eq!(next(&below, "one"), None);
        // A machine went back: what it was written to meanwhile is nobody's.
        let back = [Layer { is_held: true, ..layer(a, None) }, layer(b, Some(a)), head(c, a, "one")];
        assert_eq!(next(&back, "one"), Some(Deed::Remove(b)));
        // Another name is no layer of its own.
        let name = Layer { alias_of: Some(c), ..layer(a, None) };
        let named = [layer(b, None), name.clone(), head(c, d, "one")];
        assert_eq!(next(&named, "one"), Some(Deed::Remove(b)));
        assert!(!is_spare(&named, &name));
        // Of a layer that is gone nobody knows the name.
        assert!(is_spare(std::slice::from_ref(&name), &name));
    }

    #[test]
    fn a_circle_that_cannot_be_ends() {
        let [a, b] = [(); 2].map(|()| VolumeId::new());
        assert_eq!(next(&[layer(a, Some(b)), layer(b, Some(a))], "one"), None);
    }
}
