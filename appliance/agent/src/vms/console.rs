//! Consoles of this host's machines. Whoever may have one is given a ticket that is good for half a minute and for one
//! WebSocket; over that, what the guest shows and what is typed goes as it is, until somebody ends it or may not any more.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket},
};
use futures_util::{SinkExt, StreamExt};
use quantix_api::{CONSOLE_CLOSED, ConsoleKind, Problem, ProblemCode, Secret, text::beginning};
use quantix_compute::{Console, Failed, VmId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{interval, timeout},
};

use crate::{
    api::Agent,
    changes::Listener,
    lock,
    sessions::{self, TokenHash},
};

/// How long a ticket is good.
pub(crate) const GOOD_FOR: Duration = Duration::from_secs(30);
const MOST_TICKETS: usize = 1000;
/// Consoles that are open on this host at once.
const MOST_OPEN: usize = 256;
/// A machine that waits for somebody to look goes on by itself after so long.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(60);
/// How often it is asked whether whoever looks is still there, and still may.
const ASKS: Duration = Duration::from_secs(10);
/// Of somebody who says nothing for so long, not even that they are there, nobody is there.
const SILENT: Duration = Duration::from_secs(45);
/// Why a console has ended is known after so long.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
const GOODBYE: Duration = Duration::from_secs(5);
const PIECE: usize = 64 * 1024;
/// The longest reason that a WebSocket can end with, in bytes.
const LONGEST_REASON: usize = 120;

/// The way to one console.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) vm: VmId,
    pub(crate) name: String,
    pub(crate) kind: ConsoleKind,
    pub(crate) take_over: bool,
    /// Who it was given to.
    pub(crate) listener: Listener,
}

/// The consoles of this host.
#[derive(Debug)]
pub(crate) struct Consoles {
    tickets: Mutex<HashMap<TokenHash, (Instant, Ticket)>>,
    places: Arc<Semaphore>,
    /// Machines that stand still until somebody looks.
    awaited: Mutex<HashSet<VmId>>,
    /// Serial lines that somebody has, each with whether it was taken from them.
    lines: Mutex<HashMap<VmId, Arc<AtomicBool>>>,
}

impl Default for Consoles {
    fn default() -> Self {
        Self {
            tickets: Mutex::default(),
            places: Arc::new(Semaphore::new(MOST_OPEN)),
            awaited: Mutex::default(),
            lines: Mutex::default(),
        }
    }
}

impl Consoles {
    /// Gives a ticket out.
    pub(crate) fn issue(&self, ticket: Ticket) -> Result<Secret, Problem> {
        let text = sessions::new_token().ok_or_else(sessions::no_randomness)?;
        let now = Instant::now();
        let mut tickets = lock(&self.tickets);
        tickets.retain(|_, (until, _)| *until > now);
        if tickets.len() >= MOST_TICKETS {
            let sentence = "Too many consoles are asked for at once.";
            return Err(Problem::new(ProblemCode::Unavailable, sentence).retry_after(5));
        }
        tickets.insert(sessions::hash(text.expose()), (now + GOOD_FOR, ticket));
        Ok(text)
    }

    /// Takes a ticket, which is then used up.
    fn redeem(&self, text: &str) -> Result<Ticket, Problem> {
        let found = lock(&self.tickets).remove(&sessions::hash(text));
        let expired = || {
            let sentence = "This way to the console was used, or has run out. Ask for a new one.";
            Problem::new(ProblemCode::TicketExpired, sentence)
        };
        found.filter(|(until, _)| *until > Instant::now()).map(|(_, ticket)| ticket).ok_or_else(expired)
    }

    /// Notes that a serial line is somebody's now: whether it was taken from them will be said in what is given.
    fn has_line(&self, id: VmId) -> Arc<AtomicBool> {
        let is_taken = Arc::new(AtomicBool::new(false));
        if let Some(before) = lock(&self.lines).insert(id, Arc::clone(&is_taken)) {
            before.store(true, Ordering::Relaxed);
        }
        is_taken
    }

    fn let_line_go(&self, id: VmId, is_taken: &Arc<AtomicBool>) {
        let mut lines = lock(&self.lines);
        if lines.get(&id).is_some_and(|now| Arc::ptr_eq(now, is_taken)) {
            lines.remove(&id);
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let sentence = "Too many consoles are open on this host. Close some.";
        let full = |_| Problem::new(ProblemCode::Unavailable, sentence).retry_after(10);
        Arc::clone(&self.places).try_acquire_owned().map_err(full)
    }
}

/// Why there is nothing to see of a machine.
pub(crate) fn is_off(name: &str) -> Problem {
    Problem::new(ProblemCode::VmNotRunning, format!("{name} is off."))
}

impl Agent {
    /// Has a machine that stands still since it was started go on when somebody looks, or after a while.
    pub(crate) fn await_console(self: &Arc<Self>, id: VmId) {
        lock(&self.consoles.awaited).insert(id);
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(LOOKED_AT_WITHIN).await;
            agent.is_looked_at(id).await;
        });
    }

    async fn is_looked_at(self: &Arc<Self>, id: VmId) {
        if !lock(&self.consoles.awaited).remove(&id) {
            return;
        }
        if let Err(failed) = self.libvirt.resume(id).await {
            log::info!("{id} does not go on: {failed}");
        }
        if let Err(why) = self.see_vm(id, false).await {
            log::debug!("{id} waits to be looked at: {why}");
        }
    }

    async fn open_console(&self, ticket: &Ticket) -> Result<Box<dyn Console>, Problem> {
        let opened = match ticket.kind {
            ConsoleKind::Screen => self.libvirt.screen(ticket.vm).await,
            ConsoleKind::Serial => self.libvirt.serial_line(ticket.vm, ticket.take_over).await,
        };
        match opened {
            Ok(console) => Ok(console),
            Err(Failed::Unknown) => Err(is_off(&ticket.name)),
            Err(Failed::Busy) => {
                let sentence = format!("Somebody else has the serial line of {}.", ticket.name);
                Err(Problem::new(ProblemCode::ConsoleBusy, sentence))
            }
            Err(failed) if self.is_on(ticket.vm).await => {
                Err(Problem::new(ProblemCode::Unavailable, format!("{failed}.")))
            }
            Err(_) => Err(is_off(&ticket.name)),
        }
    }

    pub(crate) async fn is_on(&self, id: VmId) -> bool {
        self.libvirt.look(id).await.is_ok_and(|seen| seen.state.is_on())
    }

    /// Why a console has ended on the host: a machine ends before libvirt says so, and whoever takes a line has it before it is
    /// noted here.
    async fn why_ended(&self, ticket: &Ticket, line: Option<&AtomicBool>) -> Problem {
        let begun = Instant::now();
        while begun.elapsed() < ENDS_WITHIN {
            if line.is_some_and(|is_taken| is_taken.load(Ordering::Relaxed)) {
                return Problem::new(ProblemCode::ConsoleBusy, "Somebody else has taken the serial line.");
            }
            if !self.is_on(ticket.vm).await {
                return is_off(&ticket.name);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Problem::new(ProblemCode::Unavailable, "The console was closed on the host.")
    }

    /// Serves a WebSocket that came with a ticket, to its end.
    pub(crate) async fn attend_console(self: Arc<Self>, mut socket: WebSocket, ticket: String) {
        let begun = async {
            let ticket = self.consoles.redeem(&ticket)?;
            let place = self.consoles.place()?;
            let console = self.open_console(&ticket).await?;
            Ok((ticket, place, console))
        };
        let (ticket, _place, console) = match begun.await {
            Ok(begun) => begun,
            Err(problem) => return close(&mut socket, &problem).await,
        };
        let line = (ticket.kind == ConsoleKind::Serial).then(|| self.consoles.has_line(ticket.vm));
        self.is_looked_at(ticket.vm).await;
        let ended = self.relay(&mut socket, console, &ticket.listener).await;
        let problem = match ended {
            None => None,
            Some(Ended::NotAllowed) => {
                let sentence = "You may not look any more: the session has ended, or a right was taken.";
                Some(Problem::new(ProblemCode::Forbidden, sentence))
            }
            Some(Ended::ByGuest) => Some(self.why_ended(&ticket, line.as_deref()).await),
        };
        if let Some(line) = &line {
            self.consoles.let_line_go(ticket.vm, line);
        }
        if let Some(problem) = problem {
            close(&mut socket, &problem).await;
        }
    }

    /// Passes on what comes from either end, until one of them ends; nothing if that was whoever looks.
    async fn relay(
        self: &Arc<Self>,
        socket: &mut WebSocket,
        console: Box<dyn Console>,
        listener: &Listener,
    ) -> Option<Ended> {
        let (mut from_guest, mut to_guest) = tokio::io::split(console);
        let (mut to_person, mut from_person) = socket.split();
        let heard = Mutex::new(Instant::now());
        let typed = async {
            while let Some(Ok(message)) = from_person.next().await {
                *lock(&heard) = Instant::now();
                let bytes = match message {
                    Message::Binary(bytes) => bytes,
                    Message::Text(text) => text.into(),
                    Message::Close(_) => return None,
                    Message::Ping(_) | Message::Pong(_) => continue,
                };
                if to_guest.write_all(&bytes).await.is_err() || to_guest.flush().await.is_err() {
                    return Some(Ended::ByGuest);
                }
            }
            None
        };
        let shown = async {
            let mut asks = interval(ASKS);
            let mut piece = bytes::BytesMut::with_capacity(PIECE);
            loop {
                tokio::select! {
                    count = from_guest.read_buf(&mut piece) => {
                        if !count.is_ok_and(|count| count > 0) {
                            return Some(Ended::ByGuest);
                        }
                        // Somebody who takes nothing for so long is not there.
                        let sent = to_person.send(Message::Binary(piece.split().freeze()));
                        if !timeout(SILENT, sent).await.is_ok_and(|sent| sent.is_ok()) {
                            return None;
                        }
                        piece.reserve(PIECE);
                    }
                    _ = asks.tick() => {
                        if !self.may_still_listen(listener).await {
                            return Some(Ended::NotAllowed);
                        }
                        let is_silent = lock(&heard).elapsed() > SILENT;
                        let sent = timeout(SILENT, to_person.send(Message::Ping(Bytes::new()))).await;
                        if is_silent || !sent.is_ok_and(|sent| sent.is_ok()) {
                            return None;
                        }
                    }
                }
            }
        };
        tokio::select! {
            ended = typed => ended,
            ended = shown => ended,
        }
    }
}

/// How a console ended that whoever looks has not ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    ByGuest,
    NotAllowed,
}

/// Ends a WebSocket, and says why.
async fn close(socket: &mut WebSocket, problem: &Problem) {
    let code = serde_json::to_value(problem.code).unwrap_or_default();
    let reason = format!("{} {}", code.as_str().unwrap_or_default(), problem.detail);
    let mut reason = beginning(&reason, LONGEST_REASON);
    while reason.len() > LONGEST_REASON {
        reason.pop();
    }
    let reason = Utf8Bytes::from(reason);
    let frame = CloseFrame { code: CONSOLE_CLOSED, reason };
    // Whoever is gone need not be told. Whoever is there ends it too, once they have read why.
    let goodbye = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    drop(timeout(GOODBYE, goodbye).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        let listener =
            Listener { session: [0; 32], username: "ada".into(), is_program: false, rights: Vec::new() };
        let (vm, name) = (VmId::new(), "web-01".to_owned());
        Ticket { vm, name, kind: ConsoleKind::Screen, take_over: false, listener }
    }

    #[test]
    fn a_ticket_is_good_once_and_for_a_while() {
        let consoles = Consoles::default();
        let text = consoles.issue(ticket()).unwrap();
        assert_eq!(consoles.redeem("something else").unwrap_err().code, ProblemCode::TicketExpired);
        assert!(consoles.redeem(text.expose()).is_ok());
        assert_eq!(consoles.redeem(text.expose()).unwrap_err().code, ProblemCode::TicketExpired);
        let late = consoles.issue(ticket()).unwrap();
        for (until, _) in lock(&consoles.tickets).values_mut() {
            *until = Instant::now();
        }
        assert_eq!(consoles.redeem(late.expose()).unwrap_err().code, ProblemCode::TicketExpired);
    }

    #[test]
    fn tickets_that_nobody_uses_are_bounded() {
        let consoles = Consoles::default();
        for _ in 0..MOST_TICKETS {
            consoles.issue(ticket()).unwrap();
        }
        assert_eq!(consoles.issue(ticket()).unwrap_err().code, ProblemCode::Unavailable);
        lock(&consoles.tickets).values_mut().for_each(|(until, _)| *until = Instant::now());
        consoles.issue(ticket()).unwrap();
    }
}
