//! What hosts and virtual machines use, and used: courses of figures over time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A figure that is followed over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The part of its processors that is in use, from 0 to 1.
    Cpu,
    /// The part of the time for which its processors wanted to run and were not let: a machine by its host, a host by what
    /// it runs on.
    CpuWait,
    /// Memory in use, in bytes: of a machine as its guest sees it, if the guest tells.
    Memory,
    /// Memory that a machine takes of its host, in bytes.
    MemoryOnHost,
    /// Reads from disks, a second.
    DiskReads,
    /// Writes to disks, a second.
    DiskWrites,
    /// Bytes read from disks, a second.
    DiskRead,
    /// Bytes written to disks, a second.
    DiskWritten,
    /// How long a read or write took, in seconds.
    DiskLatency,
    /// Bytes that came over the network, a second.
    NetReceived,
    /// Bytes that went over the network, a second.
    NetSent,
}

impl Metric {
    /// All of them, in the order in which they are kept.
    pub const ALL: [Self; 11] = [
        Self::Cpu,
        Self::CpuWait,
        Self::Memory,
        Self::MemoryOnHost,
        Self::DiskReads,
        Self::DiskWrites,
        Self::DiskRead,
        Self::DiskWritten,
        Self::DiskLatency,
        Self::NetReceived,
        Self::NetSent,
    ];
}

/// How far back figures go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Span {
    /// Five minutes, a figure for each second.
    Minutes,
    /// An hour.
    #[default]
    Hour,
    /// A day.
    Day,
    /// A week.
    Week,
    /// A year.
    Year,
}

impl Span {
    /// All of them, the shortest first.
    pub const ALL: [Self; 5] = [Self::Minutes, Self::Hour, Self::Day, Self::Week, Self::Year];

    /// What it is called in an address.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minutes => "minutes",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Year => "year",
        }
    }
}

/// Which figures are asked for.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct MetricsQuery {
    /// How far back they go.
    #[serde(default)]
    #[param(inline, default = "hour")]
    pub span: Span,
}

/// What a host or a virtual machine used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metrics {
    /// How far back it goes.
    pub span: Span,
    /// When the first value begins.
    pub begin: Timestamp,
    /// How many seconds each value stands for.
    pub step_seconds: u32,
    /// For each figure its mean values, one after the other up to now, each nothing where nobody knows.
    #[schema(value_type = BTreeMap<String, Vec<Option<f32>>>)]
    pub values: BTreeMap<Metric, Vec<Option<f32>>>,
}

impl Metrics {
    /// The values of a figure.
    pub fn of(&self, metric: Metric) -> &[Option<f32>] {
        self.values.get(&metric).map_or(&[], Vec::as_slice)
    }

    /// The last that is known of a figure.
    pub fn last(&self, metric: Metric) -> Option<f32> {
        self.of(metric).iter().rev().copied().flatten().next()
    }
}
