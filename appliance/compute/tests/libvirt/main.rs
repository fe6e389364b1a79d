//! Against the libvirt and the QEMU of the image, in a place of their own. Guests are imitated, and small: none needs
//! more than its firmware.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod console;
mod events;
mod faults;
mod layers;
mod life;
mod load;
mod machines;
mod words;
