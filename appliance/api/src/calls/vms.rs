//! Virtual machines and their folders.

use http::Method;

use super::{HOSTS_PATH, asking, part};
use crate::{
    Call, ChangeFolder, ChangeSnapshot, ChangeVm, CloneVm, CloudInit, ConsoleTicket, FetchSshKeys, Folder,
    Folders, FoundVms, ImportVm, Metrics, MetricsQuery, NewDisk, NewFolder, NewSchedule, NewSnapshot, NewVm,
    OpenConsole, Page, PowerVm, RemoveSnapshot, RemoveVm, RevertVm, Schedule, Schedules, SetGuestPassword,
    SettleDrift, Snapshot, Snapshots, SshKeysFound, Task, Vm, VmCounts, VmQuery,
};

/// Virtual machines.
pub const VMS_PATH: &str = "/api/v1/vms";
/// Their folders.
pub const FOLDERS_PATH: &str = "/api/v1/folders";

/// Virtual machines.
pub fn vms(query: &VmQuery) -> Call<Page<Vm>> {
    Call::new(Method::GET, asking(VMS_PATH, query))
}

/// How many virtual machines there are.
pub fn vm_counts() -> Call<VmCounts> {
    Call::new(Method::GET, format!("{VMS_PATH}/counts"))
}

/// One virtual machine.
pub fn vm(id: &str) -> Call<Vm> {
    Call::new(Method::GET, format!("{VMS_PATH}/{}", part(id)))
}

/// Makes a virtual machine.
pub fn make_vm(body: &NewVm) -> Call<Task> {
    Call::new(Method::POST, VMS_PATH).json(body)
}

/// Looks whether a virtual machine can be made, and makes none.
pub fn check_vm(body: &NewVm) -> Call<()> {
    Call::new(Method::POST, format!("{VMS_PATH}/check")).json(body)
}

/// Fetches keys that let somebody in, from an address.
pub fn fetch_ssh_keys(body: &FetchSshKeys) -> Call<SshKeysFound> {
    Call::new(Method::POST, "/api/v1/ssh-keys/fetch").json(body)
}

/// The virtual machines that a host has and that are not among the machines.
pub fn found_vms(host: &str) -> Call<FoundVms> {
    Call::new(Method::GET, format!("{HOSTS_PATH}/{}/found-vms", part(host)))
}

/// Makes one of them one of the machines.
pub fn import_vm(body: &ImportVm) -> Call<Task> {
    Call::new(Method::POST, format!("{VMS_PATH}/import")).json(body)
}

/// Changes a virtual machine.
pub fn change_vm(id: &str, body: &ChangeVm) -> Call<Vm> {
    Call::new(Method::PATCH, format!("{VMS_PATH}/{}", part(id))).json(body)
}

/// Removes a virtual machine.
pub fn remove_vm(id: &str, body: &RemoveVm) -> Call<Task> {
    Call::new(Method::DELETE, format!("{VMS_PATH}/{}", part(id))).json(body)
}

/// Switches a virtual machine on or off, or does something between the two.
pub fn power_vm(id: &str, body: &PowerVm) -> Call<Task> {
    Call::new(Method::POST, format!("{VMS_PATH}/{}/power", part(id))).json(body)
}

/// Makes a disk for a virtual machine.
pub fn add_disk(id: &str, body: &NewDisk) -> Call<Task> {
    Call::new(Method::POST, format!("{VMS_PATH}/{}/disks", part(id))).json(body)
}

/// What the guest of a virtual machine is told when it starts for the first time.
pub fn cloud_init(id: &str) -> Call<CloudInit> {
    Call::new(Method::GET, format!("{VMS_PATH}/{}/cloud-init", part(id)))
}

/// Has the guest of a virtual machine told something else.
pub fn set_cloud_init(id: &str, body: &CloudInit) -> Call<CloudInit> {
    Call::new(Method::PUT, format!("{VMS_PATH}/{}/cloud-init", part(id))).json(body)
}

/// Has the guest of a virtual machine told nothing.
pub fn remove_cloud_init(id: &str) -> Call<()> {
    Call::new(Method::DELETE, format!("{VMS_PATH}/{}/cloud-init", part(id)))
}

/// The snapshots of a virtual machine.
pub fn snapshots(id: &str) -> Call<Snapshots> {
    Call::new(Method::GET, format!("{VMS_PATH}/{}/snapshots", part(id)))
}

/// Makes a snapshot of a virtual machine.
pub fn make_snapshot(id: &str, body: &NewSnapshot) -> Call<Task> {
    Call::new(Method::POST, format!("{VMS_PATH}/{}/snapshots", part(id))).json(body)
}

/// Gives a snapshot another name, or other words.
pub fn change_snapshot(id: &str, snapshot: &str, body: &ChangeSnapshot) -> Call<Snapshot> {
    Call::new(Method::PATCH, format!("{VMS_PATH}/{}/snapshots/{}", part(id), part(snapshot))).json(body)
}

/// Takes a virtual machine back to a snapshot.
pub fn revert_vm(id: &str, snapshot: &str, body: &RevertVm) -> Call<Task> {
    Call::new(Method::POST, format!("{VMS_PATH}/{}/snapshots/{}/revert", part(id), part(snapshot))).json(body)
}

/// Removes a snapshot.
pub fn remove_snapshot(id: &str, snapshot: &str, body: &RemoveSnapshot) -> Call<Task> {
    Call::new(Method::DELETE, format!("{VMS_PATH}/{}/snapshots/{}", part(id), part(snapshot))).json(body)
}

/// What makes snapshots of a virtual machine by itself.
pub fn schedules(id: &str) -> Call<Schedules> {
    Call::new(Method::GET, format!("{VMS_PATH}/{}/schedules", part(id)))
}

/// Has snapshots of a virtual machine made by themselves.
pub fn make_schedule(id: &str, body: &NewSchedule) -> Call<Schedule> {
    Call::new(Method::POST, format!("{VMS_PATH}/{}/schedules", part(id))).json(body)
}

/// Has no more snapshots made like this. Those that were made stay.
pub fn remove_schedule(id: &str, schedule: &str) -> Call<()> {
    Call::new(Method::DELETE, format!("{VMS_PATH}/{}/schedules/{}", part(id), part(schedule)))
}

/// Makes a virtual machine that begins as another.
pub fn clone_vm(id: &str, body: &CloneVm) -> Call<Task> {
    Call::new(Method::POST, format!("{VMS_PATH}/{}/clone", part(id))).json(body)
}

/// Asks for the way to a console of a virtual machine.
pub fn open_console(id: &str, body: &OpenConsole) -> Call<ConsoleTicket> {
    Call::new(Method::POST, format!("{VMS_PATH}/{}/console", part(id))).json(body)
}

/// Gives a user of a guest another password.
pub fn set_guest_password(id: &str, body: &SetGuestPassword) -> Call<()> {
    Call::new(Method::POST, format!("{VMS_PATH}/{}/guest/password", part(id))).json(body)
}

/// A picture of the screen of a virtual machine, which is no JSON.
pub fn vm_picture(id: &str) -> Call<()> {
    Call::new(Method::GET, format!("{VMS_PATH}/{}/picture", part(id)))
}

/// What a virtual machine used.
pub fn vm_metrics(id: &str, query: &MetricsQuery) -> Call<Metrics> {
    Call::new(Method::GET, asking(format!("{VMS_PATH}/{}/metrics", part(id)), query))
}

/// Says which holds where libvirt's description differs from what is kept.
pub fn settle_drift(id: &str, body: &SettleDrift) -> Call<Vm> {
    Call::new(Method::POST, format!("{VMS_PATH}/{}/drift", part(id))).json(body)
}

/// All folders.
pub fn folders() -> Call<Folders> {
    Call::new(Method::GET, FOLDERS_PATH)
}

/// Makes a folder.
pub fn make_folder(body: &NewFolder) -> Call<Folder> {
    Call::new(Method::POST, FOLDERS_PATH).json(body)
}

/// Gives a folder another name, or puts it elsewhere.
pub fn change_folder(id: i64, body: &ChangeFolder) -> Call<Folder> {
    Call::new(Method::PATCH, format!("{FOLDERS_PATH}/{id}")).json(body)
}

/// Removes a folder that is empty.
pub fn remove_folder(id: i64) -> Call<()> {
    Call::new(Method::DELETE, format!("{FOLDERS_PATH}/{id}"))
}
