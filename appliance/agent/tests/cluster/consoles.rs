//! Consoles over WebSockets, with the libvirt and the QEMU of the image.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use quantix_api::{
    AuditQuery, ConsoleKind, ConsoleTicket, NewVm, OpenConsole, PowerVm, Problem, ProblemCode, VmAction,
    VmState, calls,
};
use tokio::{net::UnixStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, protocol::CloseFrame},
};

use crate::{
    hosts::{Host, problem, until},
    place::{Place, new},
};

type Socket = WebSocketStream<UnixStream>;

const SOON: Duration = Duration::from_secs(30);

pub(crate) fn wanted(kind: ConsoleKind, take_over: bool) -> OpenConsole {
    OpenConsole { kind, take_over }
}

/// Opens the WebSocket that a ticket leads to, over a host.
pub(crate) async fn attend(host: &Host, ticket: &ConsoleTicket) -> Socket {
    let stream = UnixStream::connect(host.dir().join("run/api.sock")).await.unwrap();
    client_async(format!("ws://host{}", ticket.address.expose()), stream).await.unwrap().0
}

/// Reads until this has come.
pub(crate) async fn reads(socket: &mut Socket, wanted: &[u8]) {
    let mut all = Vec::new();
    let read = async {
        while !all.windows(wanted.len()).any(|window| window == wanted) {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => all.extend(bytes),
                Message::Close(frame) => panic!("it ended: {frame:?}"),
                _ => {}
            }
        }
    };
    timeout(SOON, read).await.unwrap();
}

/// Why it ends.
async fn ends(socket: &mut Socket) -> String {
    let read = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    assert_eq!(u16::from(code), quantix_api::CONSOLE_CLOSED);
                    return reason.to_string();
                }
                Some(Ok(_)) => {}
                ended => panic!("it ended without a word: {ended:?}"),
            }
        }
    };
    timeout(SOON, read).await.unwrap()
}

impl Place {
    async fn ticket(&self, id: &str, body: &OpenConsole) -> Result<ConsoleTicket, Problem> {
        match self.host.client().call(&calls::open_console(id, body).as_session(&self.session)).await {
            Ok(ticket) => Ok(ticket),
            failed => Err(problem(failed)),
        }
    }

    async fn console(&self, id: &str, kind: ConsoleKind, take_over: bool) -> Socket {
        attend(&self.host, &self.ticket(id, &wanted(kind, take_over)).await.unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screen_and_a_serial_line_come_over_websockets_and_say_why_they_end() {
    let place = Place::start().await;
    let id = place.make(&new("web-01")).await;
    let off = place.ticket(&id, &wanted(ConsoleKind::Screen, false)).await.unwrap_err();
    assert_eq!((off.code, off.detail.as_str()), (ProblemCode::VmNotRunning, "web-01 is off."));

    // It stands still until somebody looks, so that nothing is missed.
    let start = PowerVm { with_console: true, ..PowerVm::usual(VmAction::Start) };
    let call = calls::power_vm(&id, &start).as_session(&place.session);
    let task = place.host.client().call(&call).await.unwrap();
    place.ended(task.id).await;
    assert_eq!(place.vm(&id).await.state, VmState::Paused);
    let ticket = place.ticket(&id, &wanted(ConsoleKind::Serial, false)).await.unwrap();
    let mut serial = attend(&place.host, &ticket).await;
    place.becomes(&id, VmState::Running).await;
    reads(&mut serial, b"BdsDxe").await;
    serial.send(Message::Binary(vec![b'\r'].into())).await.unwrap();

    // A ticket is good once.
    assert!(ends(&mut attend(&place.host, &ticket).await).await.starts_with("ticket-expired "));
    let mut busy = place.console(&id, ConsoleKind::Serial, false).await;
    assert_eq!(ends(&mut busy).await, "console-busy Somebody else has the serial line of web-01.");
    let mut other = place.console(&id, ConsoleKind::Serial, true).await;
    assert_eq!(ends(&mut serial).await, "console-busy Somebody else has taken the serial line.");

    let mut screens = [
        place.console(&id, ConsoleKind::Screen, false).await,
        place.console(&id, ConsoleKind::Screen, false).await,
    ];
    for screen in &mut screens {
        reads(screen, b"RFB 003.008\n").await;
        screen.send(Message::Binary(b"RFB 003.008\n".to_vec().into())).await.unwrap();
        reads(screen, &[1, 1]).await;
    }
    place.does(&id, VmAction::ForceStop).await;
    for socket in screens.iter_mut().chain([&mut other]) {
        assert_eq!(ends(socket).await, "vm-not-running web-01 is off.");
    }
    let audit = calls::audit(&AuditQuery::default()).as_session(&place.session);
    let audit = serde_json::to_string(&place.host.client().call(&audit).await.unwrap()).unwrap();
    assert!(audit.contains("open-console") && audit.contains("serial"), "{audit}");
    assert!(!audit.contains(ticket.address.expose()), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_out_looks_no_more() {
    let place = Place::start().await;
    let id = place.make(&NewVm { start: true, ..new("web-01") }).await;
    place.becomes(&id, VmState::Running).await;
    let mut screen = place.console(&id, ConsoleKind::Screen, false).await;
    reads(&mut screen, b"RFB 003.008\n").await;
    let kept = place.ticket(&id, &wanted(ConsoleKind::Screen, false)).await.unwrap();
    place.host.client().call(&calls::sign_out().as_session(&place.session)).await.unwrap();
    assert!(ends(&mut screen).await.starts_with("forbidden "));
    // A ticket that was given out before lets nobody look for long.
    let mut screen = attend(&place.host, &kept).await;
    assert!(ends(&mut screen).await.starts_with("forbidden "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_nobody_looks_at_is_not_kept_waiting_by_an_agent_that_ends() {
    let mut place = Place::start().await;
    let id = place.make(&new("web-01")).await;
    let start = PowerVm { with_console: true, ..PowerVm::usual(VmAction::Start) };
    let call = calls::power_vm(&id, &start).as_session(&place.session);
    let task = place.host.client().call(&call).await.unwrap();
    place.ended(task.id).await;
    place.host.kill();
    place.host.start_again();
    place.host.ready().await;
    // It stands still, says so, and goes on when somebody has it go on.
    until("it is seen", async || place.vm(&id).await.state == VmState::Paused).await;
    place.does(&id, VmAction::Resume).await;
    place.becomes(&id, VmState::Running).await;
}
