//! What libvirt tells by itself. The one place that speaks to its C interface: the crate that wraps the rest of it does
//! not know these calls.

#![expect(unsafe_code, reason = "libvirt tells of events through functions of C")]

use std::{
    ffi::{c_char, c_int, c_void},
    ptr,
    sync::OnceLock,
};

use uuid::Uuid;
use virt::{connect::Connect, error::Error};

use super::kept::Watched;
use crate::model::id::VmId;

/// Something happened to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The machine.
    pub id: VmId,
    /// What.
    pub happened: Happened,
}

/// What happened to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was described anew, or consists of something else while it is on.
    Defined,
    /// It is forgotten.
    Undefined,
    /// Its state is another one.
    State,
    /// The program in its guest came or went.
    Agent,
    /// Its guest gave back something that had been plugged in.
    Unplugged,
}

/// Where events go. It is called on the thread of events, and must not wait.
type Sink = Box<dyn Fn(Event) + Send>;

/// Begins to wait for events, once for the whole program. Connections that were opened before hear of nothing.
pub(super) fn listen() -> Result<(), String> {
    static LISTENING: OnceLock<Result<(), String>> = OnceLock::new();
    let start = || {
        // Errors are returned; libvirt would print them too.
        virt::error::clear_error_callback();
        virt::event::event_register_default_impl().map_err(|error| error.to_string())?;
        let turn = || {
            while virt::event::event_run_default_impl().is_ok() {}
            log::error!("libvirt's events are heard no more: its loop has ended");
        };
        let thread = std::thread::Builder::new().name("libvirt-events".into()).spawn(turn);
        thread.map(drop).map_err(|error| error.to_string())
    };
    LISTENING.get_or_init(start).clone()
}

/// A connection whose events are heard until it is dropped.
pub(super) struct Hearing {
    connection: Connect,
    callbacks: Vec<c_int>,
    /// What is seen of machines besides, for as long.
    pub(super) watched: Option<Watched>,
}

impl Hearing {
    /// Begins to hear what happens on a connection.
    pub(super) fn begin(
        connection: Connect,
        sink: impl Fn(Event) + Send + Clone + 'static,
    ) -> Result<Self, Error> {
        let mut hearing = Self { connection, callbacks: Vec::new(), watched: None };
        // SAFETY: these events come with two numbers, and this one with a text. libvirt calls a function with the arguments
        // that belong to the event it was given for, whatever type it was handed over as.
        let (lifecycle, agent, unplugged) = unsafe {
            (
                std::mem::transmute::<Numbers, Any>(lifecycle),
                std::mem::transmute::<Numbers, Any>(agent),
                std::mem::transmute::<Text, Any>(unplugged),
            )
        };
        hearing.hear(virt_sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, Box::new(sink.clone()))?;
        hearing.hear(virt_sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, agent, Box::new(sink.clone()))?;
        hearing.hear(virt_sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, unplugged, Box::new(sink))?;
        Ok(hearing)
    }

    /// The connection.
    pub(super) fn connection(&self) -> &Connect {
        &self.connection
    }

    fn hear(&mut self, event: virt_sys::virDomainEventID, function: Any, sink: Sink) -> Result<(), Error> {
        let event = c_int::try_from(event).unwrap_or_default();
        let sink = Box::into_raw(Box::new(sink)).cast::<c_void>();
        // SAFETY: the connection is open; the sink is libvirt's from here on, and `free` takes it back when the
        // callback is no more.
        let callback = unsafe {
            let connection = self.connection.as_ptr();
            let none = ptr::null_mut();
            virt_sys::virConnectDomainEventRegisterAny(
                connection,
                none,
                event,
                Some(function),
                sink,
                Some(free),
            )
        };
        if callback < 0 {
            // SAFETY: libvirt did not take it.
            unsafe { free(sink) };
            return Err(Error::last_error());
        }
        self.callbacks.push(callback);
        Ok(())
    }
}

impl Drop for Hearing {
    /// A callback holds its connection, which would never be closed.
    fn drop(&mut self) {
        for callback in &self.callbacks {
            // SAFETY: the callback was given to this connection, which is open until the end of this function. An error
            // means that it is gone already.
            unsafe { virt_sys::virConnectDomainEventDeregisterAny(self.connection.as_ptr(), *callback) };
        }
    }
}

/// As libvirt takes a function, whatever its event comes with.
type Any = unsafe extern "C" fn(virt_sys::virConnectPtr, virt_sys::virDomainPtr, *mut c_void);
/// An event that comes with two numbers.
type Numbers =
    unsafe extern "C" fn(virt_sys::virConnectPtr, virt_sys::virDomainPtr, c_int, c_int, *mut c_void);
/// An event that comes with a text.
type Text = unsafe extern "C" fn(virt_sys::virConnectPtr, virt_sys::virDomainPtr, *const c_char, *mut c_void);

/// # Safety
///
/// libvirt gives it a domain, and the sink it was registered with.
unsafe extern "C" fn lifecycle(
    _: virt_sys::virConnectPtr,
    domain: virt_sys::virDomainPtr,
    event: c_int,
    _detail: c_int,
    sink: *mut c_void,
) {
    let happened = match u32::try_from(event) {
        Ok(virt_sys::VIR_DOMAIN_EVENT_DEFINED) => Happened::Defined,
        Ok(virt_sys::VIR_DOMAIN_EVENT_UNDEFINED) => Happened::Undefined,
        _ => Happened::State,
    };
    // SAFETY: as this function's caller promises.
    unsafe { tell(domain, happened, sink) };
}

/// # Safety
///
/// libvirt gives it a domain, and the sink it was registered with.
unsafe extern "C" fn agent(
    _: virt_sys::virConnectPtr,
    domain: virt_sys::virDomainPtr,
    _state: c_int,
    _reason: c_int,
    sink: *mut c_void,
) {
    // SAFETY: as this function's caller promises.
    unsafe { tell(domain, Happened::Agent, sink) };
}

/// # Safety
///
/// libvirt gives it a domain, and the sink it was registered with.
unsafe extern "C" fn unplugged(
    _: virt_sys::virConnectPtr,
    domain: virt_sys::virDomainPtr,
    _device: *const c_char,
    sink: *mut c_void,
) {
    // SAFETY: as this function's caller promises.
    unsafe { tell(domain, Happened::Unplugged, sink) };
}

/// # Safety
///
/// The domain is one of libvirt's, and the sink came from `Hearing::hear`.
unsafe fn tell(domain: virt_sys::virDomainPtr, happened: Happened, sink: *mut c_void) {
    let mut bytes = [0_u8; 16];
    // SAFETY: libvirt writes 16 bytes.
    if unsafe { virt_sys::virDomainGetUUID(domain, bytes.as_mut_ptr()) } == 0 {
        // SAFETY: it lives until `free`, which libvirt calls when no call of it is left.
        let sink = unsafe { &*sink.cast::<Sink>() };
        sink(Event { id: VmId(Uuid::from_bytes(bytes)), happened });
    }
}

/// # Safety
///
/// The sink came from `hear`, and nobody uses it any more.
unsafe extern "C" fn free(sink: *mut c_void) {
    // SAFETY: it was made by `Box::into_raw` from this very type.
    drop(unsafe { Box::from_raw(sink.cast::<Sink>()) });
}
