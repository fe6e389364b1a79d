//! What libvirt does with the layers of a machine's disks and with its memory, as far as it takes functions of C that nobody
//! has wrapped.

#![expect(unsafe_code, reason = "libvirt does these through functions of C")]

use std::{
    ffi::{CStr, CString, c_char},
    mem::MaybeUninit,
    path::Path,
    ptr,
};

use virt::{
    connect::Connect,
    domain::Domain,
    enumutil::Enum,
    error::{Error, ErrorNumber},
};

use super::{
    libvirt::{Failed, HOLDS_WITHIN, LOOKS_WITHIN, Libvirt},
    params,
};
use crate::model::{element::Element, id::VmId};

/// How far something is that is done to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// So much is done.
    pub done: u64,
    /// Of so much.
    pub whole: u64,
}

/// A text for C. One with a zero in it is none, and is taken for empty, which names nothing.
fn text(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn path(path: &Path) -> CString {
    text(&path.to_string_lossy())
}

fn done(answer: i32) -> Result<(), Error> {
    if answer < 0 { Err(Error::last_error()) } else { Ok(()) }
}

impl Libvirt {
    /// Lets a machine that is on go on with other layers, as drawn; if so, its file systems are held meanwhile.
    pub async fn hold(&self, id: VmId, drawn: &Element, freezes: bool) -> Result<(), Failed> {
        let mut how = virt_sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
            | virt_sys::VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
            // They are there already: libvirt makes none.
            | virt_sys::VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT;
        let has_memory = drawn.child("memory").is_some_and(|memory| memory.attribute("file").is_some());
        if has_memory {
            how |= virt_sys::VIR_DOMAIN_SNAPSHOT_CREATE_LIVE;
        } else {
            how |= virt_sys::VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY;
        }
        if freezes {
            how |= virt_sys::VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE;
        }
        let drawn = drawn.to_xml();
        self.ask(HOLDS_WITHIN, move |connection| {
            connection.lookup_domain_by_uuid(id.0)?.create_snapshot_xml(&drawn, how).map(drop)
        })
        .await
    }

    /// Lets a guest write out what it has in hand, and hold its file systems until it is told to go on.
    pub async fn freeze(&self, id: VmId) -> Result<(), Failed> {
        self.act(id, |domain| {
            // SAFETY: the machine is known, and no places are named: all are meant.
            done(unsafe { virt_sys::virDomainFSFreeze(domain.as_ptr(), ptr::null_mut(), 0, 0) })
        })
        .await
    }

    /// Lets its file systems go on.
    pub async fn thaw(&self, id: VmId) -> Result<(), Failed> {
        self.act(id, |domain| {
            // SAFETY: the machine is known, and no places are named: all are meant.
            done(unsafe { virt_sys::virDomainFSThaw(domain.as_ptr(), ptr::null_mut(), 0, 0) })
        })
        .await
    }

    /// Ends what is being done to the whole machine, such as keeping its memory.
    pub async fn give_up(&self, id: VmId) -> Result<(), Failed> {
        // SAFETY: the machine is known.
        self.act(id, |domain| done(unsafe { virt_sys::virDomainAbortJob(domain.as_ptr()) })).await
    }

    /// Begins to write the layer `upper` of a disk into the one below it, `lower`; without an `upper`, the one that is written
    /// to, which waits then until it is told to go on with the lower one.
    pub async fn merge(&self, id: VmId, disk: &str, upper: Option<&str>, lower: &str) -> Result<(), Failed> {
        let (disk, upper, lower) = (text(disk), upper.map(text), text(lower));
        self.act(id, move |domain| {
            let how = match upper {
                // What lies on it names what it lies on then as it did before: beside itself.
                Some(_) => virt_sys::VIR_DOMAIN_BLOCK_COMMIT_RELATIVE,
                None => virt_sys::VIR_DOMAIN_BLOCK_COMMIT_ACTIVE,
            };
            let upper = upper.as_ref().map_or(ptr::null(), |upper| upper.as_ptr());
            // SAFETY: the machine is known, and the texts are there until this returns.
            done(unsafe {
                virt_sys::virDomainBlockCommit(domain.as_ptr(), disk.as_ptr(), lower.as_ptr(), upper, 0, how)
            })
        })
        .await
    }

    /// Begins to copy a disk to what is there already and as big, and goes on until it is ended: once all is copied, whatever
    /// the guest writes is in both before it is told that it is written.
    pub async fn copy_disk(&self, id: VmId, disk: &str, to: &Element) -> Result<(), Failed> {
        let (disk, to) = (text(disk), text(&to.to_xml()));
        self.act(id, move |domain| {
            let how = virt_sys::VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
                | virt_sys::VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
                | virt_sys::VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES;
            // SAFETY: the machine is known, the texts are there until this returns, and there are no parameters.
            done(unsafe {
                virt_sys::virDomainBlockCopy(
                    domain.as_ptr(),
                    disk.as_ptr(),
                    to.as_ptr(),
                    ptr::null_mut(),
                    0,
                    how,
                )
            })
        })
        .await
    }

    /// How far what is being done to a disk is; nothing, if nothing is.
    pub async fn job(&self, id: VmId, disk: &str) -> Result<Option<Job>, Failed> {
        let disk = text(disk);
        self.ask(LOOKS_WITHIN, move |connection| job(&connection.lookup_domain_by_uuid(id.0)?, &disk)).await
    }

    /// Ends what is being done to a disk; if so, it goes on with the lower layer, or with the copy.
    pub async fn end_job(&self, id: VmId, disk: &str, goes_over: bool) -> Result<(), Failed> {
        let disk = text(disk);
        let how = if goes_over { virt_sys::VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT } else { 0 };
        self.act(id, move |domain| {
            // SAFETY: the machine is known, and the text is there until this returns.
            done(unsafe { virt_sys::virDomainBlockJobAbort(domain.as_ptr(), disk.as_ptr(), how) })
        })
        .await
    }

    /// Limits how much a disk of a machine that is on may be used, until it is switched off; 0 for no limit.
    pub async fn limit_disk(&self, id: VmId, disk: &str, bytes: u64, times: u64) -> Result<(), Failed> {
        let disk = text(disk);
        self.act(id, move |domain| {
            params::with_numbers(
                &[(c"total_bytes_sec", bytes), (c"total_iops_sec", times)],
                |params, count| {
                    let live = virt_sys::VIR_DOMAIN_AFFECT_LIVE;
                    // SAFETY: the machine is known, and the text and the parameters are there until this returns.
                    done(unsafe {
                        virt_sys::virDomainSetBlockIoTune(domain.as_ptr(), disk.as_ptr(), params, count, live)
                    })
                },
            )
        })
        .await
    }

    /// The description of the machine whose memory is in a file.
    pub async fn kept_description(&self, memory: &Path) -> Result<String, Failed> {
        let memory = path(memory);
        self.ask(LOOKS_WITHIN, move |connection| kept_description(connection, &memory)).await
    }

    /// Wakes a machine whose memory is in a file, as it is described; it stands still.
    pub async fn wake(&self, memory: &Path, described: &str) -> Result<(), Failed> {
        let (memory, described) = (path(memory), text(described));
        self.ask(HOLDS_WITHIN, move |connection| {
            let how = virt_sys::VIR_DOMAIN_SAVE_PAUSED;
            // SAFETY: the connection is open, and the texts are there until this returns.
            done(unsafe {
                virt_sys::virDomainRestoreFlags(connection.as_ptr(), memory.as_ptr(), described.as_ptr(), how)
            })
        })
        .await
    }
}

/// Whether the memory of a machine that is off lies on disk. Of one that was described after its memory was put there, libvirt
/// tells that it is off, but wakes it when it is started.
pub(super) fn has_memory(domain: &Domain) -> Result<bool, Error> {
    if domain.has_managed_save(0)? {
        return Ok(true);
    }
    // SAFETY: the machine is there until this returns.
    let described = unsafe { virt_sys::virDomainManagedSaveGetXMLDesc(domain.as_ptr(), 0) };
    if described.is_null() {
        let error = Error::last_error();
        // One that cannot be read is there.
        return Ok(error.code() != Enum::Known(ErrorNumber::OperationInvalid));
    }
    // SAFETY: libvirt allocated it with malloc and leaves it to whoever asked.
    unsafe { nix::libc::free(described.cast()) };
    Ok(true)
}

fn job(domain: &Domain, disk: &CStr) -> Result<Option<Job>, Error> {
    let mut info = MaybeUninit::<virt_sys::virDomainBlockJobInfo>::zeroed();
    // SAFETY: there is room for what is told, and the text is there until this returns.
    let there =
        unsafe { virt_sys::virDomainGetBlockJobInfo(domain.as_ptr(), disk.as_ptr(), info.as_mut_ptr(), 0) };
    done(there)?;
    if there == 0 {
        return Ok(None);
    }
    // SAFETY: it consists of numbers, and was filled with zeros before.
    let info = unsafe { info.assume_init() };
    Ok(Some(Job { done: info.cur, whole: info.end }))
}

fn kept_description(connection: &Connect, memory: &CStr) -> Result<String, Error> {
    // SAFETY: the connection is open, and the text is there until this returns.
    let told = unsafe { virt_sys::virDomainSaveImageGetXMLDesc(connection.as_ptr(), memory.as_ptr(), 0) };
    if told.is_null() {
        return Err(Error::last_error());
    }
    // SAFETY: libvirt tells a text that ends with a zero, and leaves it to whoever asked.
    let described = unsafe { CStr::from_ptr(told.cast::<c_char>()) }.to_string_lossy().into_owned();
    // SAFETY: libvirt allocated it with malloc, and it is not used any more.
    unsafe { nix::libc::free(told.cast()) };
    Ok(described)
}
