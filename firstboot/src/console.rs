//! The console screen's loop: ask the agent, draw what has changed, listen for a key. It is what is left to look at
//! when everything else is down, so nothing here may end it but its terminal going away.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use quantix_api::{AgentClient, calls};
use ratatui::{
    Terminal, TerminalOptions, Viewport,
    backend::{Backend, CrosstermBackend},
    crossterm::{
        event::{self, Event, KeyCode, KeyModifiers},
        terminal,
    },
    layout::Rect,
};
use tokio::time::timeout;

use crate::{
    form::{Deed, Form, Step},
    view::{self, Seen},
};

/// How long the screen may be behind.
const REFRESH: Duration = Duration::from_secs(2);
/// The kernel may write over the screen; this often all of it is drawn again.
const REDRAW: Duration = Duration::from_secs(60);
/// The agent asks its daemons for five seconds at most. One that takes longer hangs, and a screen that waited for it
/// would show not even an address.
const PATIENCE: Duration = Duration::from_secs(7);
/// What a serial line that does not know its size is taken for.
const SERIAL: Rect = Rect { x: 0, y: 0, width: 80, height: 24 };

/// Runs until the terminal goes away.
pub(crate) fn run(agent: &Path) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let agent = AgentClient::new(agent);
    terminal::enable_raw_mode()?;
    let mut screen = fresh()?;
    let mut drawn = Instant::now();
    let mut form: Option<Form> = None;
    loop {
        let seen = runtime.block_on(look(&agent));
        if drawn.elapsed() >= REDRAW {
            screen = fresh()?;
            drawn = Instant::now();
        }
        draw(&mut screen, &seen, form.as_ref())?;
        let until = Instant::now() + REFRESH;
        // A person types faster than the agent is asked.
        while event::poll(until.saturating_duration_since(Instant::now()))? {
            let event = event::read()?;
            if asks_to_redraw(&event) {
                screen = fresh()?;
                drawn = Instant::now();
            }
            if let Event::Key(key) = event {
                match (&mut form, &seen) {
                    (Some(open), _) => match open.key(key) {
                        Step::Stay => {}
                        Step::Close => form = None,
                        Step::Submit => {
                            open.wait();
                            draw(&mut screen, &seen, Some(open))?;
                            runtime.block_on(open.submit(&agent));
                        }
                    },
                    (None, Seen::Agent { console, .. }) => {
                        form = Deed::of(key.code, console).map(|deed| Form::new(deed, console));
                    }
                    (None, Seen::NoAgent { .. }) => {}
                }
            }
            draw(&mut screen, &seen, form.as_ref())?;
        }
    }
}

fn draw(
    screen: &mut Terminal<CrosstermBackend<io::Stdout>>,
    seen: &Seen,
    form: Option<&Form>,
) -> io::Result<()> {
    let drawn = screen.draw(|frame| match form {
        Some(form) => form.draw(frame),
        None => view::draw(frame, seen),
    });
    drawn.map(drop)
}

/// An empty screen that is drawn in full next. `Terminal::clear` is of no use here: it asks the terminal where the
/// cursor is, and a serial line with nobody at the other end does not answer.
fn fresh() -> io::Result<Terminal<CrosstermBackend<io::Stdout>>> {
    let size = terminal::size().unwrap_or_default();
    let viewport = if size.0 == 0 || size.1 == 0 { Viewport::Fixed(SERIAL) } else { Viewport::Fullscreen };
    let mut backend = CrosstermBackend::new(io::stdout());
    backend.clear()?;
    backend.hide_cursor()?;
    Terminal::with_options(backend, TerminalOptions { viewport })
}

async fn look(agent: &AgentClient) -> Seen {
    let asked = timeout(PATIENCE, agent.call(&calls::console())).await;
    let why = match asked {
        Ok(Ok(console)) => return Seen::Agent { console: Box::new(console), now: Timestamp::now() },
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("The agent on this host did not answer within {} seconds.", PATIENCE.as_secs()),
    };
    Seen::NoAgent { why, hostname: quantix_host::hostname(), nics: quantix_host::nics() }
}

fn asks_to_redraw(event: &Event) -> bool {
    match event {
        Event::Key(key) => {
            key.code == KeyCode::F(5)
                || (key.code == KeyCode::Char('l') && key.modifiers.contains(KeyModifiers::CONTROL))
        }
        Event::Resize(..) => true,
        _ => false,
    }
}
