//! What can be chosen in the form of a machine: folders, hosts, pools, images.

use quantix_api::{
    CallError, Folder, Guest, Image, ImageState, Right, VmQuery, Volume, VolumeQuery, VolumeState, calls,
};

use super::{form::EMPTY, machine::MOST_UNUSED};
use crate::{folders, frame::Frame, web::Web, words};

/// Templates that are offered beside the images.
const MOST_TEMPLATES: u32 = 8;

/// A value that is sent, and the title that is shown.
pub(super) type Choice = (String, String);

/// What there is to choose from.
#[derive(Clone, Debug, Default)]
pub(super) struct Choices {
    pub(super) folders: Vec<Folder>,
    pub(super) hosts: Vec<Choice>,
    pub(super) pools: Vec<Choice>,
    pub(super) images: Vec<Image>,
    /// Volumes that no machine has.
    pub(super) unused: Vec<Volume>,
    /// Templates that can be cloned instead.
    pub(super) templates: Vec<Choice>,
}

/// The folders into which whoever asks may put machines.
pub(super) fn folder_choices(all: &[Folder]) -> Vec<Choice> {
    let may =
        |id: &i64| all.iter().any(|folder| folder.id == *id && folder.rights.contains(&Right::ManageVms));
    let none = ("0".to_owned(), "In no folder".to_owned());
    let paths = folders::paths(all).into_iter().filter(|(id, _)| may(id));
    std::iter::once(none).chain(paths.map(|(id, path)| (id.to_string(), path))).collect()
}

impl Choices {
    pub(super) async fn load(web: &Web, frame: &Frame) -> Result<Self, CallError> {
        let folders = calls::folders().as_session(frame.token());
        let pools = calls::pools().as_session(frame.token());
        let images = calls::images().as_session(frame.token());
        let query =
            VmQuery { state: Some("template".to_owned()), limit: Some(MOST_TEMPLATES), ..VmQuery::default() };
        let templates = calls::vms(&query).as_session(frame.token());
        let query = VolumeQuery { used: Some(false), limit: Some(MOST_UNUSED), ..VolumeQuery::default() };
        let unused = calls::volumes(&query).as_session(frame.token());
        let (folders, pools, images, templates, unused) = tokio::try_join!(
            web.agent.call(&folders),
            web.agent.call(&pools),
            web.agent.call(&images),
            web.agent.call(&templates),
            web.agent.call(&unused)
        )?;
        let hosts = frame.cluster().map_or(&[][..], |cluster| &cluster.hosts);
        Ok(Self {
            folders: folders.items,
            hosts: hosts.iter().map(|host| (host.id.clone(), host.name.clone())).collect(),
            pools: pools.items.into_iter().map(|pool| (pool.id, pool.name)).collect(),
            images: images.items,
            unused: unused.items,
            templates: templates.items.into_iter().map(|vm| (vm.id, vm.spec.name)).collect(),
        })
    }

    pub(super) fn of_folders(&self) -> Vec<Choice> {
        folder_choices(&self.folders)
    }

    pub(super) fn of_images(&self) -> Vec<Choice> {
        let none = (String::new(), "Nothing: an empty disk".to_owned());
        let title = |image: &Image| match image.bytes {
            Some(bytes) => format!("{} ({})", image.name, words::bytes(bytes)),
            None => image.name.clone(),
        };
        let ready = self.images.iter().filter(|image| image.state == ImageState::Ready && !image.is_cd());
        std::iter::once(none).chain(ready.map(|image| (image.id.clone(), title(image)))).collect()
    }

    pub(super) fn of_cds(&self) -> Vec<Choice> {
        let none = (String::new(), "It has no CD drive".to_owned());
        let empty = (EMPTY.to_owned(), "Nothing is in it".to_owned());
        let cds = self.images.iter().filter(|image| image.state == ImageState::Ready && image.is_cd());
        [none, empty].into_iter().chain(cds.map(|image| (image.id.clone(), image.name.clone()))).collect()
    }

    pub(super) fn of_unused(&self) -> Vec<Choice> {
        let none = (String::new(), "None of these".to_owned());
        let title = |volume: &Volume| {
            format!("{} ({}, on {})", volume.name, words::bytes(volume.bytes), volume.host_name)
        };
        let ready = self.unused.iter().filter(|volume| volume.state == VolumeState::Ready);
        std::iter::once(none).chain(ready.map(|volume| (volume.id.clone(), title(volume)))).collect()
    }

    /// CDs that a second drive can have.
    pub(super) fn of_drivers(&self) -> Vec<Choice> {
        let none = (String::new(), "No second CD".to_owned());
        std::iter::once(none).chain(self.of_cds().into_iter().skip(2)).collect()
    }

    /// What runs in machines that begin with an image, as far as it is known.
    pub(super) fn runs(&self) -> Vec<(&str, &'static str)> {
        let guest = |image: &Image| Guest::of_os(&image.os).map(Guest::name);
        self.images.iter().filter_map(|image| Some((&*image.id, guest(image)?))).collect()
    }

    pub(super) fn of_hosts(&self) -> Vec<Choice> {
        let any = (String::new(), "Chosen for you".to_owned());
        std::iter::once(any).chain(self.hosts.iter().cloned()).collect()
    }

    /// What is said of the further disks of a machine that came as this image; nothing, if there are none.
    pub(super) fn further(&self, image: &str) -> Option<String> {
        let disks = self.image(image)?.draft.as_ref()?.further_disks(&self.images, false);
        let sizes: Vec<_> = disks.iter().map(|disk| words::bytes(disk.bytes)).collect();
        match &sizes[..] {
            [] => None,
            [one] => Some(format!("With the other disk that came with it, of {one}")),
            several => Some(format!(
                "With the other {} disks that came with it, of {}",
                several.len(),
                several.join(", ")
            )),
        }
    }

    pub(super) fn image(&self, id: &str) -> Option<&Image> {
        self.images.iter().find(|image| image.id == id)
    }
}
