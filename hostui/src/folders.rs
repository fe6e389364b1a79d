//! Folders of virtual machines.

use quantix_api::Folder;

/// Ways up that are longer than this are none that was made.
const DEEPEST: usize = 16;

/// Every folder by its id, with the names on the way to it; in the order of those.
pub(crate) fn paths(folders: &[Folder]) -> Vec<(i64, String)> {
    let mut paths: Vec<_> = folders.iter().map(|folder| (folder.id, path(folders, folder))).collect();
    paths.sort_by_key(|(_, path)| path.to_lowercase());
    paths
}

/// The names on the way to a folder. What is around a folder but may not be seen is left out.
fn path(folders: &[Folder], folder: &Folder) -> String {
    let mut names = vec![folder.name.as_str()];
    let mut parent = folder.parent;
    while let Some(id) = parent
        && names.len() < DEEPEST
        && let Some(around) = folders.iter().find(|folder| folder.id == id)
    {
        names.push(&around.name);
        parent = around.parent;
    }
    names.reverse();
    names.join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_called_by_the_way_to_it() {
        let folder = |id, name: &str, parent| Folder {
            id,
            name: name.into(),
            parent,
            vms: 0,
            version: 1,
            rights: std::collections::BTreeSet::new(),
        };
        let folders = [folder(2, "web", Some(1)), folder(1, "Production", None), folder(4, "lost", Some(9))];
        let paths = paths(&folders);
        assert_eq!(paths, [(4, "lost".into()), (1, "Production".into()), (2, "Production / web".into())]);
        let round = [folder(1, "a", Some(2)), folder(2, "b", Some(1))];
        assert!(path(&round, &round[0]).len() < 100);
    }
}
