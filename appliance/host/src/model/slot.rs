//! Which slot the system runs from. A disk has two partitions of the type "root for this architecture"; the one
//! that comes first is slot A.

use quantix_api::SlotName;

/// The GPT type of a root file system on x86-64.
pub(crate) const ROOT_TYPE: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";

/// The slot of the partition numbered `running`, among the numbers of all root partitions of the disk.
pub(crate) fn slot(running: u32, roots: &[u32]) -> Option<SlotName> {
    let mut roots = roots.to_vec();
    roots.sort_unstable();
    match roots.iter().position(|number| *number == running)? {
        0 => Some(SlotName::A),
        1 => Some(SlotName::B),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_root_partition_is_slot_a_and_the_second_slot_b() {
        assert_eq!(slot(3, &[5, 3]), Some(SlotName::A));
        assert_eq!(slot(5, &[3, 5]), Some(SlotName::B));
    }

    #[test]
    fn a_partition_that_is_no_root_is_in_no_slot() {
        assert_eq!(slot(6, &[3, 5]), None);
    }
}
