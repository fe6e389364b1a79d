//! Consoles: the screens and serial lines of virtual machines.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Secret;

/// What is seen of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConsoleKind {
    /// Its screen, keyboard and mouse: what is exchanged is RFB, as VNC clients speak it.
    Screen,
    /// Its serial line: what is exchanged are the bytes on it.
    Serial,
}

impl ConsoleKind {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Screen => "screen",
            Self::Serial => "serial",
        }
    }
}

/// `POST /api/v1/vms/{vm}/console`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenConsole {
    /// What is seen of it.
    pub kind: ConsoleKind,
    /// Whether somebody who has the serial line loses it.
    #[serde(default)]
    pub take_over: bool,
}

/// The way to a console, for whoever comes soon, and once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConsoleTicket {
    /// Where a WebSocket is opened. Nothing else is needed there.
    #[schema(value_type = String)]
    pub address: Secret,
    /// What is seen there.
    pub kind: ConsoleKind,
    /// Until when.
    pub good_until: Timestamp,
}

/// How a WebSocket of a console begins the reason it ends with: the code of a problem, a blank and a sentence.
pub const CONSOLE_CLOSED: u16 = 4000;
