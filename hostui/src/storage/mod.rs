//! Storage: pools, volumes and images.

pub(crate) mod catalogue;
pub(crate) mod files;
pub(crate) mod image;
pub(crate) mod images;
mod page;
pub(crate) mod pool;
mod volume;

pub(crate) use page::page;
pub(crate) use volume::{deed, make, new_page, remove, remove_page, volume_page};

use quantix_api::{Problem, ProblemCode, Volume, VolumeState};

use crate::{component::Standing, words};

/// A volume's state as a dot with words.
fn standing(volume: &Volume) -> Standing {
    match volume.state {
        VolumeState::Making => Standing::busy("Is being made"),
        VolumeState::Ready if volume.vm.is_some() => Standing::ok("In use"),
        VolumeState::Ready => Standing::idle("Not used"),
        VolumeState::Missing => Standing::bad("Missing"),
        VolumeState::Unknown => Standing::bad("Its host is lost"),
    }
}

/// What a volume takes of its pool.
fn taken(volume: &Volume) -> String {
    volume.used.map_or_else(|| "not known yet".to_owned(), words::bytes)
}

/// GiB as they are typed, in bytes.
pub(crate) fn gib(text: &str, field: &str) -> Result<u64, Problem> {
    let wrong = || Problem::new(ProblemCode::Invalid, "This is no size in GiB.").in_field(field);
    let gib: u64 = text.trim().parse().map_err(|_| wrong())?;
    gib.checked_mul(1 << 30).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// A problem with a size is shown beside the field in which that is typed.
pub(crate) fn beside_its_field(mut problem: Problem) -> Problem {
    if problem.field.as_deref() == Some("bytes") {
        problem.field = Some("gib".to_owned());
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_gib() {
        assert_eq!(gib(" 20 ", "bytes").unwrap(), 20 << 30);
        for wrong in ["", "0", "1.5", "-1", "99999999999999999999", "999999999999"] {
            assert!(gib(wrong, "bytes").is_err(), "{wrong}");
        }
    }
}
