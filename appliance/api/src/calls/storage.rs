//! Pools and volumes.

use http::Method;

use super::{HOSTS_PATH, asking, part};
use crate::{
    AddDisks, AdoptFile, Call, ChangePool, ChangeVolume, GrowVolume, HostDisks, MoveVolume, NewPool,
    NewVolume, Page, Pool, PoolFiles, Pools, RemoveFile, RemovePool, RemoveVolume, Task, Volume, VolumeQuery,
};

/// Pools.
pub const POOLS_PATH: &str = "/api/v1/pools";
/// Volumes.
pub const VOLUMES_PATH: &str = "/api/v1/volumes";

/// All pools.
pub fn pools() -> Call<Pools> {
    Call::new(Method::GET, POOLS_PATH)
}

/// One pool.
pub fn pool(id: &str) -> Call<Pool> {
    Call::new(Method::GET, format!("{POOLS_PATH}/{}", part(id)))
}

/// Makes a pool.
pub fn make_pool(body: &NewPool) -> Call<Task> {
    Call::new(Method::POST, POOLS_PATH).json(body)
}

/// Makes a pool bigger.
pub fn add_disks(id: &str, body: &AddDisks) -> Call<Task> {
    Call::new(Method::POST, format!("{POOLS_PATH}/{}/disks", part(id))).json(body)
}

/// Removes a pool that is empty.
pub fn remove_pool(id: &str, body: &RemovePool) -> Call<Task> {
    Call::new(Method::DELETE, format!("{POOLS_PATH}/{}", part(id))).json(body)
}

/// The disks of a host.
pub fn host_disks(host: &str) -> Call<HostDisks> {
    Call::new(Method::GET, format!("{HOSTS_PATH}/{}/disks", part(host)))
}

fn files_of(host: &str, pool: &str) -> String {
    format!("{HOSTS_PATH}/{}/pools/{}/files", part(host), part(pool))
}

/// The files of a pool on a host.
pub fn pool_files(host: &str, pool: &str) -> Call<PoolFiles> {
    Call::new(Method::GET, files_of(host, pool))
}

/// Makes something of a file that nobody knows.
pub fn adopt_file(host: &str, pool: &str, body: &AdoptFile) -> Call<Task> {
    Call::new(Method::POST, files_of(host, pool)).json(body)
}

/// Removes a file that nobody knows.
pub fn remove_file(host: &str, pool: &str, body: &RemoveFile) -> Call<Task> {
    Call::new(Method::DELETE, files_of(host, pool)).json(body)
}

/// Changes a pool.
pub fn change_pool(id: &str, body: &ChangePool) -> Call<Pool> {
    Call::new(Method::PATCH, format!("{POOLS_PATH}/{}", part(id))).json(body)
}

/// Volumes.
pub fn volumes(query: &VolumeQuery) -> Call<Page<Volume>> {
    Call::new(Method::GET, asking(VOLUMES_PATH, query))
}

/// One volume.
pub fn volume(id: &str) -> Call<Volume> {
    Call::new(Method::GET, format!("{VOLUMES_PATH}/{}", part(id)))
}

/// Makes a volume.
pub fn make_volume(body: &NewVolume) -> Call<Task> {
    Call::new(Method::POST, VOLUMES_PATH).json(body)
}

/// Gives a volume another name.
pub fn change_volume(id: &str, body: &ChangeVolume) -> Call<Volume> {
    Call::new(Method::PATCH, format!("{VOLUMES_PATH}/{}", part(id))).json(body)
}

/// Makes a volume bigger.
pub fn grow_volume(id: &str, body: &GrowVolume) -> Call<Task> {
    Call::new(Method::POST, format!("{VOLUMES_PATH}/{}/grow", part(id))).json(body)
}

/// Moves a volume into another pool.
pub fn move_volume(id: &str, body: &MoveVolume) -> Call<Task> {
    Call::new(Method::POST, format!("{VOLUMES_PATH}/{}/move", part(id))).json(body)
}

/// Removes a volume with all that is on it.
pub fn remove_volume(id: &str, body: &RemoveVolume) -> Call<Task> {
    Call::new(Method::DELETE, format!("{VOLUMES_PATH}/{}", part(id))).json(body)
}
