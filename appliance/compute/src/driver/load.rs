//! What machines use, all of them at once.

#![expect(unsafe_code, reason = "libvirt tells it as parameters of C")]

use std::{collections::HashMap, ffi::c_uint, ptr};

use quantix_host::Load;
use virt::{connect::Connect, error::Error};

use super::{
    libvirt::{Failed, LOOKS_WITHIN, Libvirt},
    params,
};
use crate::{model::id::VmId, plan::load::read};

const WHAT: c_uint = virt_sys::VIR_DOMAIN_STATS_BALLOON
    | virt_sys::VIR_DOMAIN_STATS_VCPU
    | virt_sys::VIR_DOMAIN_STATS_INTERFACE
    | virt_sys::VIR_DOMAIN_STATS_BLOCK;

/// A machine that is busy with something else tells less, and keeps nobody waiting.
const HOW: c_uint =
    virt_sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | virt_sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;

impl Libvirt {
    /// What the machines that are on have used since they were switched on.
    pub async fn loads(&self) -> Result<HashMap<VmId, Load>, Failed> {
        self.ask(LOOKS_WITHIN, loads).await
    }
}

fn loads(connection: &Connect) -> Result<HashMap<VmId, Load>, Error> {
    let mut records = ptr::null_mut();
    // SAFETY: the connection is open, and there is room for where the records are.
    let count =
        unsafe { virt_sys::virConnectGetAllDomainStats(connection.as_ptr(), WHAT, &raw mut records, HOW) };
    let Ok(count) = usize::try_from(count) else { return Err(Error::last_error()) };
    let mut loads = HashMap::new();
    for at in 0..count {
        // SAFETY: there are so many, each with a machine and its parameters.
        let (uuid, told) = unsafe {
            let record = &**records.add(at);
            let mut uuid = [0; 16];
            let known = virt_sys::virDomainGetUUID(record.dom, uuid.as_mut_ptr());
            ((known == 0).then_some(uuid), params::read(record.params, record.nparams))
        };
        if let Some(uuid) = uuid {
            loads.insert(VmId(uuid::Uuid::from_bytes(uuid)), read(&told));
        }
    }
    // SAFETY: they are libvirt's, and are not used any more.
    unsafe { virt_sys::virDomainStatsRecordListFree(records) };
    Ok(loads)
}
