//! What a guest tells of itself, and does when it is asked, through the agent that runs in it.

#![expect(unsafe_code, reason = "libvirt tells it as parameters of C")]

use std::{collections::BTreeMap, ptr};

use quantix_api::VmGuest;
use virt::{domain::Domain, error::Error};

use super::{
    libvirt::{Failed, LOOKS_WITHIN, Libvirt},
    params,
};
use crate::{
    model::{element::Element, id::VmId, told::Told},
    plan::guest::{agent_answers, read},
};

impl Libvirt {
    /// What the guest of a machine tells of itself; nothing, if no agent answers in it.
    pub async fn guest(&self, id: VmId) -> Result<Option<VmGuest>, Failed> {
        let described = self.running(id).await?;
        if !Element::from_xml(&described).is_ok_and(|domain| agent_answers(&domain)) {
            return Ok(None);
        }
        let told =
            self.ask(LOOKS_WITHIN, move |connection| told(&connection.lookup_domain_by_uuid(id.0)?)).await;
        match told {
            Ok(told) => Ok(Some(read(&told))),
            // One that has just gone, or that says less than is asked for.
            Err(Failed::Refused(why)) => {
                log::debug!("The guest of {id} does not tell of itself: {why}");
                Ok(None)
            }
            Err(failed) => Err(failed),
        }
    }

    /// Gives a user of a guest another password.
    pub async fn set_password(&self, id: VmId, user: String, password: String) -> Result<(), Failed> {
        self.act(id, move |domain| domain.set_user_password(&user, &password, 0)).await
    }

    /// Lets a guest use so many processors. One that it was given while it was on is only there for most, until somebody
    /// in them switches it on.
    pub async fn use_processors(&self, id: VmId, count: u32) -> Result<(), Failed> {
        let guest = virt_sys::VIR_DOMAIN_VCPU_GUEST;
        self.act(id, move |domain| domain.set_vcpus_flags(count, guest).map(drop)).await
    }

    /// Lets the clock of a guest be right, after it has stood still for long.
    pub async fn set_clock(&self, id: VmId) -> Result<(), Failed> {
        self.act(id, |domain| domain.set_time(0, 0, virt_sys::VIR_DOMAIN_TIME_SYNC)).await
    }
}

fn told(domain: &Domain) -> Result<BTreeMap<String, Told>, Error> {
    let what = virt_sys::VIR_DOMAIN_GUEST_INFO_OS
        | virt_sys::VIR_DOMAIN_GUEST_INFO_HOSTNAME
        | virt_sys::VIR_DOMAIN_GUEST_INFO_INTERFACES;
    let (mut params, mut count) = (ptr::null_mut(), 0);
    // SAFETY: the machine is known, and there is room for where the parameters are and how many.
    let asked =
        unsafe { virt_sys::virDomainGetGuestInfo(domain.as_ptr(), what, &raw mut params, &raw mut count, 0) };
    if asked < 0 {
        return Err(Error::last_error());
    }
    // SAFETY: libvirt allocated so many parameters there.
    let all = unsafe { params::read(params, count) };
    // SAFETY: they are libvirt's, and are not used any more.
    unsafe { virt_sys::virTypedParamsFree(params, count) };
    Ok(all)
}
