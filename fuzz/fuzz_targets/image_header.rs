//! See `quantix_fuzz::TARGETS`.
#![cfg_attr(fuzzing, no_main)]

quantix_fuzz::target!("image_header");
