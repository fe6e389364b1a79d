//! What a host tells and asks of whoever leads, about its own pools and volumes.

use quantix_api::Problem;
use quantix_store::HostId;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{
    copies, images, layers,
    moving::{self, Moving},
    pools,
    sighting::{self, Sighting},
    volumes::{self, ToMake},
};
use crate::{
    cluster::{self, Cluster, Refused},
    sessions::now_ms,
    vms,
};

/// What is told or asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Asked {
    /// That a pool is seen so.
    Sees(Box<Sighting>),
    /// That a volume has its place among the volumes, and among the disks of the machine it is made for.
    Add { volume: ToMake, vm: Option<String>, by: String },
    /// That it is there; if so, on what it began as.
    IsMade {
        volume: String,
        #[serde(default)]
        linked: bool,
    },
    /// That a layer is not there any more.
    LayerIsGone { layer: String },
    /// That two layers are one, and whether a machine knows it by the name of the lower, too.
    LayersAreOne { lower: String, upper: String, is_known: bool },
    /// That it has grown.
    HasGrown { volume: String, bytes: u64 },
    /// That it is written to in another pool from now on.
    GoesOver { moving: Moving },
    /// That it stays where it was.
    Stays { moving: Moving },
    /// That nobody has open any more what it was.
    HasGoneOver { moving: Moving },
    /// That the file of an image is so long.
    ImageHasLength { image: String, length: u64 },
    /// That the file of an image has a sum.
    ImageHasSum { image: String, sum: String },
    /// That an image is ready.
    ImageIsReady {
        image: String,
        facts: images::Facts,
        /// The machine that it came with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        machine: Option<images::Machine>,
    },
    /// That the host has a copy of an image.
    ImageIsCopied { image: String },
    /// That it has it no longer.
    CopyIsGone { image: String },
    /// That an image is forgotten.
    ForgetImage { image: String },
    /// That disks by which a pool was to be made bigger are not its own.
    DisksAreBack { pool: String, disks: Vec<String> },
    /// That a pool is forgotten.
    ForgetPool { pool: String },
    /// That it is forgotten.
    Forget { volume: String },
}

impl Cluster {
    /// Takes in what a host tells or asks.
    pub(crate) async fn take_about_storage(&self, host: HostId, asked: Asked) -> Result<(), Problem> {
        self.write(move |connection| take(connection, host, &asked, now_ms())).await
    }
}

fn take(connection: &Connection, host: HostId, asked: &Asked, now_ms: i64) -> Result<(), Refused> {
    match asked {
        Asked::Sees(sighting) => sighting::take(connection, host, sighting, now_ms),
        // What has its place may have been taken from the machine meanwhile.
        Asked::Add { volume, .. } if volumes::find(connection, &volume.id)?.is_some() => Ok(()),
        Asked::Add { volume, vm, by } => match vm {
            Some(vm) => {
                vms::kept::place_disk(connection, &vms::kept::one(connection, vm)?, volume, by, now_ms)
            }
            None => volumes::add(connection, volume, host, by, now_ms).map(drop),
        },
        Asked::IsMade { volume, linked } => Ok(volumes::is_made(connection, host, volume, *linked)?),
        Asked::LayerIsGone { layer } => Ok(layers::is_gone(connection, host, layer)?),
        Asked::LayersAreOne { lower, upper, is_known } => {
            Ok(layers::are_one(connection, host, lower, upper, *is_known)?)
        }
        Asked::HasGrown { volume, bytes } => Ok(volumes::has_grown(connection, host, volume, *bytes)?),
        Asked::GoesOver { moving } => moving::goes_over(connection, host, moving),
        Asked::Stays { moving } => moving::stays(connection, host, moving),
        Asked::HasGoneOver { moving } => Ok(moving::has_gone_over(connection, host, moving)?),
        Asked::ImageHasLength { image, length } => Ok(images::has_length(connection, host, image, *length)?),
        Asked::ImageHasSum { image, sum } => Ok(images::has_sum(connection, host, image, sum)?),
        Asked::ImageIsReady { image, facts, machine } => {
            Ok(images::is_ready(connection, host, image, facts, machine.as_ref(), now_ms)?)
        }
        Asked::ImageIsCopied { image } => Ok(copies::add(connection, image, host)?),
        Asked::CopyIsGone { image } => Ok(copies::is_gone(connection, image, host)?),
        Asked::ForgetImage { image } => match images::find(connection, image)? {
            Some(kept) if kept.host == host || !cluster::kept::is_there(connection, kept.host)? => {
                Ok(images::forget(connection, image)?)
            }
            _ => Ok(()),
        },
        Asked::DisksAreBack { pool, disks } => pools::disks_are_back(connection, pool, disks, host),
        Asked::ForgetPool { pool } => pools::forget(connection, pool, host, now_ms),
        Asked::Forget { volume } => match volumes::find(connection, volume)? {
            // One whose host is gone for good is forgotten by whoever leads.
            Some(kept) if kept.host == host || !cluster::kept::is_there(connection, kept.host)? => {
                if let Some(vm) = &kept.shown.vm {
                    vms::kept::take_disk(connection, vm, volume)?;
                }
                let host_is_gone = !cluster::kept::is_there(connection, kept.host)?;
                Ok(volumes::forget(connection, &kept, host_is_gone)?)
            }
            _ => Ok(()),
        },
    }
}
