//! Somebody at a screen that looks at one host.

use std::{ops::Deref, sync::Arc};

use crate::{browser::Browser, host::Host, screen::Screen, wait::Patience};

/// A screen, and the host it looks at.
#[derive(Debug)]
pub struct Desk {
    /// The host.
    pub host: Arc<Host>,
    screen: Screen,
}

impl Deref for Desk {
    type Target = Screen;

    fn deref(&self) -> &Screen {
        &self.screen
    }
}

impl Desk {
    /// A host that is set up, a browser, and nobody signed in.
    pub async fn start() -> Self {
        Self::at(&Host::settled("qx-01").await).await
    }

    /// The same for a host that is there already.
    pub async fn at(host: &Arc<Host>) -> Self {
        Self::in_browser(host, &Browser::start().await).await
    }

    /// Another window with cookies of its own, looking at any host.
    pub async fn in_browser(host: &Arc<Host>, browser: &Arc<Browser>) -> Self {
        let screen = Screen::at(host.origin(), Patience::default(), browser).await;
        Self { host: Arc::clone(host), screen }
    }
}
