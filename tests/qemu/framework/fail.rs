//! How the framework gives up: with a sentence that says what it was doing, at the line of the case.
//!
//! A case is a script of what a person does. A step that does not work ends it, and the machine's artefacts are
//! kept because the machine is dropped while panicking. So the framework panics where a library would return.

use std::fmt::Display;

/// Ends the case when a step did not work.
pub trait OrFail<T> {
    /// The value, or the end of the case with what was being done.
    #[track_caller]
    fn or_fail(self, doing: impl Display) -> T;
}

impl<T, E: Display> OrFail<T> for Result<T, E> {
    #[track_caller]
    fn or_fail(self, doing: impl Display) -> T {
        match self {
            Ok(value) => value,
            Err(error) => fail(format!("{doing}: {error}")),
        }
    }
}

impl<T> OrFail<T> for Option<T> {
    #[track_caller]
    fn or_fail(self, doing: impl Display) -> T {
        match self {
            Some(value) => value,
            None => fail(doing),
        }
    }
}

/// Ends the case with a sentence.
#[track_caller]
#[expect(clippy::panic, reason = "the one way a case ends early; see the head of this file")]
pub fn fail(sentence: impl Display) -> ! {
    panic!("{sentence}")
}
