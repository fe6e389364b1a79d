//! Judgements: from facts to what works and what does not, in sentences for a person.

pub(crate) mod checks;
pub(crate) mod pci;
