//! Values that libvirt tells by name, as parameters of C.

#![expect(unsafe_code, reason = "libvirt tells it as parameters of C")]

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char, c_int},
    ptr, slice,
};

use virt::error::Error;

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

/// Tells numbers by their names.
pub(super) fn with_numbers(
    numbers: &[(&CStr, u64)],
    tell: impl FnOnce(virt_sys::virTypedParameterPtr, c_int) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut params, mut count, mut room) = (ptr::null_mut(), 0, 0);
    let mut added = Ok(());
    for (name, number) in numbers {
        // SAFETY: libvirt makes room for as many as there are, and copies the name.
        let answer = unsafe {
            virt_sys::virTypedParamsAddULLong(
                &raw mut params,
                &raw mut count,
                &raw mut room,
                name.as_ptr(),
                *number,
            )
        };
        if answer < 0 {
            added = Err(Error::last_error());
        }
    }
    let told = added.and_then(|()| tell(params, count));
    // SAFETY: they are libvirt's, and are not used any more.
    unsafe { virt_sys::virTypedParamsFree(params, count) };
    told
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
