//! What a host does so that the disks of its machines consist of no more layers than somebody needs, whether they are on or
//! off. Whatever is begun here is found again after the program, or the power, has ended in the middle of it.

use std::{future::Future, time::Duration};

use quantix_api::VmState;
use quantix_compute::{Chain, Element, Failed, VmId, chains};
use quantix_storage::{Below, Directory, Going, VolumeId};

use crate::{
    api::Agent,
    storage::{
        asked::Asked,
        layers::{self, Deed, Layer},
    },
};

/// How far libvirt is, is looked at so often: it tells only of the end.
const LOOK: Duration = Duration::from_millis(200);
/// What has to succeed while a machine stands still is tried so often.
const TRIES: usize = 5;

/// libvirt ended between what it did and what it noted of it. If it is asked to give up what it does not know of, it ends again.
const LOST: &str = "libvirt ended while it put the layers together, and does not know how far it came. Switch the machine off, and \
                    try again: nothing is lost.";

const NOT_GONE_ON: &str = "libvirt could not let the machine go on with one layer less. Try again.";

const IN_USE: &str = "A disk of it is written to, although libvirt does not say that it is on. Try again.";

/// Two layers that become one.
struct Pair<'a> {
    vm: VmId,
    pool: Directory,
    lower: &'a Layer,
    upper: &'a Layer,
}

fn failed(failed: Failed) -> String {
    format!("{failed}.")
}

/// The layers of which the disks of a machine consist.
fn of_machine<'a>(layers: &'a [Layer], vm: &str) -> Vec<&'a Layer> {
    let mut all: Vec<&Layer> =
        layers.iter().filter(|layer| layer.is_head && layer.vm.as_deref() == Some(vm)).collect();
    let mut at = 0;
    while at < all.len() && all.len() <= layers.len() {
        let below = layers.iter().find(|layer| Some(layer.id) == all[at].parent);
        all.extend(below.filter(|below| !all.iter().any(|known| known.id == below.id)));
        at += 1;
    }
    all
}

impl Agent {
    /// What QEMU has open as the disks of a machine that is on.
    pub(crate) async fn chains(&self, vm: VmId) -> Result<Vec<Chain>, String> {
        let description = self.libvirt.running(vm).await.map_err(failed)?;
        Element::from_xml(&description).map(|domain| chains(&domain)).map_err(|error| error.to_string())
    }

    pub(crate) async fn layers_here(&self) -> Result<Vec<Layer>, String> {
        let me = self.cluster.store().map_err(|problem| problem.detail)?.id();
        self.cluster.catch_up().await.map_err(|problem| problem.detail)?;
        let read = self.cluster.read(move |connection| layers::on_host(connection, me)).await;
        read.map_err(|problem| problem.detail)
    }

    pub(crate) async fn tell_of_storage(&self, asked: Asked) -> Result<(), String> {
        self.cluster.ask_about_storage(asked).await.map_err(|problem| problem.detail)
    }

    async fn remove_layer(&self, layer: &Layer) -> Result<(), String> {
        self.pool(&layer.pool).remove(layer.id).await.map_err(|failed| failed.to_string())?;
        self.tell_of_storage(Asked::LayerIsGone { layer: layer.id.to_string() }).await
    }

    /// Removes the layers that nothing lies on and nobody needs, one after the other down to what is needed.
    pub(crate) async fn remove_spare_layers(&self) -> Result<(), String> {
        loop {
            let layers = self.layers_here().await?;
            let spare = layers.iter().filter(|layer| layers::is_spare(&layers, layer));
            let spare: Vec<_> = spare.collect();
            if spare.is_empty() {
                return Ok(());
            }
            for layer in spare {
                self.remove_layer(layer).await?;
            }
        }
    }

    /// Takes out the layers of a machine that nobody needs any more. Whether it was not stopped.
    pub(crate) async fn tidy_layers(&self, vm: VmId, going: impl Going) -> Result<bool, String> {
        self.settle_names(vm).await?;
        let done = loop {
            let layers = self.layers_here().await?;
            let find = |id| layers.iter().find(|layer| layer.id == id);
            let one = match layers::next(&layers, &vm.to_string()) {
                None => break true,
                Some(Deed::Remove(id)) => {
                    if let Some(layer) = find(id) {
                        self.remove_layer(layer).await?;
                    }
                    continue;
                }
                Some(Deed::Merge { lower, upper }) => find(lower).zip(find(upper)),
            };
            let Some((lower, upper)) = one else { break true };
            let pair = Pair { vm, pool: self.directory(&lower.pool), lower, upper };
            if !self.merge(&pair, &layers, &going).await? {
                break false;
            }
        };
        self.pools_changed.notify_one();
        // libvirt keeps the names that a machine has gone on with; whoever merged may have ended before it told better ones.
        if self.vm_state_or_off(vm).await.map_err(failed)?.is_on() {
            self.describe_vm(vm).await?;
        }
        Ok(done)
    }

    /// Makes one layer of two. Whether it was not stopped.
    async fn merge(&self, pair: &Pair<'_>, layers: &[Layer], going: &impl Going) -> Result<bool, String> {
        let has_it = of_machine(layers, &pair.vm.to_string()).iter().any(|layer| layer.id == pair.upper.id);
        let state = self.state_of_both(pair, has_it).await?;
        let is_live = state.is_on() && has_it;
        let merged =
            if is_live { self.merge_live(pair, state, going).await? } else { merge_off(pair, going).await? };
        if !merged {
            return Ok(false);
        }
        // A memory on disk knows the files of its machine by their names.
        let is_known = is_live || (has_it && state == VmState::Suspended);
        if !is_live {
            pair.take_name(is_known).await?;
        }
        let (lower, upper) = (pair.lower.id.to_string(), pair.upper.id.to_string());
        self.tell_of_storage(Asked::LayersAreOne { lower, upper, is_known }).await?;
        Ok(true)
    }

    /// How the machine of a pair is, in which both it and QEMU agree: what QEMU writes to belongs to a machine that is on.
    async fn state_of_both(&self, pair: &Pair<'_>, has_it: bool) -> Result<VmState, String> {
        for _ in 0..TRIES {
            let state = self.vm_state_or_off(pair.vm).await.map_err(failed)?;
            let is_live = state.is_on() && has_it;
            let is_written_to = async || pair.pool.is_written_to(pair.upper.id).await.unwrap_or_default();
            if is_live || !is_written_to().await {
                return Ok(state);
            }
            log::warn!("{} is said to be {}, and a disk of it is written to", pair.vm, state.name());
            tokio::time::sleep(LOOK).await;
        }
        Err(IN_USE.to_owned())
    }

    /// The same while QEMU has both open.
    async fn merge_live(&self, pair: &Pair<'_>, state: VmState, going: &impl Going) -> Result<bool, String> {
        let Some((chain, upper, lower)) = self.find_in_chain(pair).await? else {
            return Err(
                "Its layers are not those that are known here. Shut it down, and try again.".to_owned()
            );
        };
        // Done before, up to the name.
        let Some(upper) = upper.filter(|upper| *upper != lower) else {
            pair.take_name(true).await?;
            if lower == 0 && state == VmState::Paused {
                // It was to stand still only for that.
                self.libvirt.resume(pair.vm).await.map_err(failed)?;
            }
            return Ok(true);
        };
        let name = |at: usize| chain.name(&chain.layers[at]).unwrap_or_default();
        let disk = chain.target.as_str();
        let (upper_name, lower_name) = (name(upper), name(lower));
        let inner = (upper > 0).then_some(upper_name.as_str());
        let was_begun = self.libvirt.job(pair.vm, disk).await.map_err(failed)?.is_some();
        if inner.is_none() && was_begun != chain.is_mirrored {
            return self.find_again(pair, state).await.map(|()| true);
        }
        if !was_begun {
            self.libvirt.merge(pair.vm, disk, inner, &lower_name).await.map_err(failed)?;
        }
        loop {
            let job = self.libvirt.job(pair.vm, disk).await.map_err(failed)?;
            match job {
                None if inner.is_some() => break,
                None => return Err("libvirt has given up putting its layers together.".to_owned()),
                Some(job) => {
                    if !going(job.done, Some(job.whole)) {
                        self.libvirt.end_job(pair.vm, disk, false).await.map_err(failed)?;
                        return Ok(false);
                    }
                }
            }
            if inner.is_none() && self.is_ready(pair.vm, disk).await? {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        if inner.is_none() {
            // While it stands still both layers hold the same: whatever ends now, nothing that it wrote is lost.
            let runs = state == VmState::Running || was_begun;
            self.libvirt.pause(pair.vm).await.map_err(failed)?;
            let has_gone_on = self.go_on_below(pair, disk).await?;
            if has_gone_on {
                pair.take_name(true).await?;
            }
            if runs {
                self.libvirt.resume(pair.vm).await.map_err(failed)?;
            }
            return if has_gone_on { Ok(true) } else { Err(NOT_GONE_ON.to_owned()) };
        }
        if let Some((_, Some(_), _)) = self.find_in_chain(pair).await? {
            return Err("libvirt could not put its layers together. Is there room in its pool?".to_owned());
        }
        pair.take_name(true).await?;
        Ok(true)
    }

    async fn is_ready(&self, vm: VmId, disk: &str) -> Result<bool, String> {
        Ok(self.chains(vm).await?.iter().any(|chain| chain.target == disk && chain.is_ready))
    }

    /// Lets a machine that stands still go on with the lower layer of a disk. Whether it does, and not with the upper one; as long
    /// as that is not known, it stands still.
    async fn go_on_below(&self, pair: &Pair<'_>, disk: &str) -> Result<bool, String> {
        let gone_on = tried(async || self.libvirt.end_job(pair.vm, disk, true).await.map_err(failed)).await;
        let Err(why) = gone_on else { return Ok(true) };
        log::info!("A machine could not go on with another layer: {why}");
        if self.libvirt.job(pair.vm, disk).await.map_err(failed)?.is_some() {
            self.libvirt.end_job(pair.vm, disk, false).await.map_err(failed)?;
            return Ok(false);
        }
        // libvirt ended just when QEMU had done it.
        self.has_gone_on(pair).await.map(|()| true)
    }

    /// Sees what libvirt does not know any more: that a machine has gone on with the lower of two layers.
    async fn has_gone_on(&self, pair: &Pair<'_>) -> Result<(), String> {
        if pair.pool.is_file_of(pair.upper.id, pair.pool.path(pair.lower.id)).await {
            return Ok(());
        }
        let Some((chain, ..)) = self.find_in_chain(pair).await? else { return Err(LOST.to_owned()) };
        let is_over = self.libvirt.job(pair.vm, &chain.target).await.map_err(failed)?.is_none();
        let has_gone = (is_over && chain.goes_over)
            || !pair.pool.is_written_to(pair.upper.id).await.map_err(|failed| failed.to_string())?;
        if has_gone { Ok(()) } else { Err(LOST.to_owned()) }
    }

    /// Goes on after libvirt ended between what it did and what it noted of it.
    async fn find_again(&self, pair: &Pair<'_>, state: VmState) -> Result<(), String> {
        self.has_gone_on(pair).await?;
        pair.take_name(true).await?;
        if state == VmState::Paused {
            self.libvirt.resume(pair.vm).await.map_err(failed)?;
        }
        Ok(())
    }

    /// The disk that has the lower of two layers, and where in it they are.
    async fn find_in_chain(&self, pair: &Pair<'_>) -> Result<Option<(Chain, Option<usize>, usize)>, String> {
        for chain in self.chains(pair.vm).await? {
            let (mut upper, mut lower) = (None, None);
            for (at, layer) in chain.layers.iter().enumerate() {
                if upper.is_none() && pair.is_it(pair.upper, layer).await {
                    upper = Some(at);
                }
                if pair.is_it(pair.lower, layer).await {
                    lower = Some(at);
                }
            }
            if let Some(lower) = lower {
                return Ok(Some((chain, upper, lower)));
            }
        }
        Ok(None)
    }

    /// Takes away the other names of layers that a machine knew while it was on. While it is on, or its memory is on disk, it
    /// still does.
    pub(crate) async fn settle_names(&self, vm: VmId) -> Result<(), String> {
        let state = self.vm_state_or_off(vm).await.map_err(failed)?;
        if !matches!(state, VmState::Stopped | VmState::Crashed) {
            return Ok(());
        }
        let layers = self.layers_here().await?;
        let ours: Vec<VolumeId> = of_machine(&layers, &vm.to_string()).iter().map(|layer| layer.id).collect();
        for alias in &layers {
            let Some(real) = alias.alias_of.filter(|real| ours.contains(real)) else { continue };
            for above in layers.iter().filter(|layer| layer.parent == Some(real)) {
                let pool = self.directory(&above.pool);
                pool.say_below(above.id, Below::Layer(real)).await.map_err(|failed| failed.to_string())?;
            }
            self.remove_layer(alias).await?;
        }
        Ok(())
    }
}

impl Pair<'_> {
    /// Whether a file that QEMU has open is a layer: by its name, or because it is the same file by another.
    async fn is_it(&self, layer: &Layer, open: &quantix_compute::Layer) -> bool {
        open.path == self.pool.path(layer.id) || self.pool.is_file_of(layer.id, open.path.clone()).await
    }

    async fn take_name(&self, keeps: bool) -> Result<(), String> {
        let taken = tried(async || {
            let taken = self.pool.take_name(self.lower.id, self.upper.id, keeps).await;
            taken.map_err(|failed| failed.to_string())
        });
        taken.await
    }
}

/// Tries what has to succeed several times.
async fn tried<F: Future<Output = Result<(), String>>>(act: impl Fn() -> F) -> Result<(), String> {
    let mut tries = 1;
    loop {
        match act().await {
            Err(why) if tries < TRIES => log::info!("It is tried again: {why}"),
            done => return done,
        }
        tries += 1;
        tokio::time::sleep(LOOK).await;
    }
}

/// Makes one layer of two that no machine has open.
async fn merge_off(pair: &Pair<'_>, going: &impl Going) -> Result<bool, String> {
    let (lower, upper) = (pair.lower.id, pair.upper.id);
    let told = |failed: quantix_storage::Failed| failed.to_string();
    // Done before, up to the word of it.
    let is_there = tokio::fs::try_exists(pair.pool.path(lower)).await.map_err(|error| format!("{error}."))?;
    if !is_there || pair.pool.is_file_of(upper, pair.pool.path(lower)).await {
        return Ok(true);
    }
    let lies_on = match pair.pool.below(upper).await.map_err(told)? {
        Some(Below::Layer(below)) => pair.pool.is_file_of(lower, pair.pool.path(below)).await,
        _ => false,
    };
    if !lies_on {
        return Err(format!(
            "The layer {upper} does not lie on {lower}, as it should: nothing is done to them."
        ));
    }
    match pair.pool.merge(upper, going).await {
        Ok(()) => Ok(true),
        Err(_) if !going(0, None) => Ok(false),
        Err(why) => Err(told(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_consists_of_its_heads_and_what_they_lie_on() {
        let [a, b, c, d] = [(); 4].map(|()| VolumeId::new());
        let layer = |id, parent| Layer {
            id,
            volume: None,
            pool: "local".into(),
            parent,
            image: None,
            bytes: 1,
            alias_of: None,
            is_head: false,
            vm: None,
            is_held: false,
        };
        let head = |id, parent, vm: &str| Layer { is_head: true, vm: Some(vm.into()), ..layer(id, parent) };
        let layers = [layer(a, None), layer(b, Some(a)), head(c, Some(b), "one"), head(d, Some(a), "two")];
        let of = |vm| of_machine(&layers, vm).iter().map(|layer| layer.id).collect::<Vec<_>>();
        assert_eq!(of("one"), [c, b, a]);
        assert_eq!(of("two"), [d, a]);
        assert_eq!(of("three"), []);
    }
}
