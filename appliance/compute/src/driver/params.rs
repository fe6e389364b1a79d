//! Values that libvirt tells by name, as parameters of C.

#![expect(unsafe_code, reason = "libvirt tells it as parameters of C")]

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char, c_int},
    slice,
};

use crate::model::told::Told;

/// Reads parameters.
///
/// # Safety
///
/// There are none at `params`, or so many as `count` says.
pub(super) unsafe fn read(params: virt_sys::virTypedParameterPtr, count: c_int) -> BTreeMap<String, Told> {
    if params.is_null() {
        return BTreeMap::new();
    }
    // SAFETY: so it was promised.
    let params = unsafe { slice::from_raw_parts(params, usize::try_from(count).unwrap_or_default()) };
    params.iter().filter_map(|param| Some((text(param.field.as_ptr()), value(param)?))).collect()
}

/// A text of libvirt's.
fn text(from: *const c_char) -> String {
    // SAFETY: libvirt's texts end with a zero, and are there as long as what they belong to.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}

fn value(param: &virt_sys::virTypedParameter) -> Option<Told> {
    match u32::try_from(param.type_).ok()? {
        // SAFETY: the kind says which of the values it is.
        virt_sys::VIR_TYPED_PARAM_STRING => Some(Told::Text(text(unsafe { param.value.s }))),
        // SAFETY: as above.
        virt_sys::VIR_TYPED_PARAM_UINT => Some(Told::Number(u64::from(unsafe { param.value.ui }))),
        // SAFETY: as above.
        virt_sys::VIR_TYPED_PARAM_ULLONG => Some(Told::Number(unsafe { param.value.ul })),
        _ => None,
    }
}
