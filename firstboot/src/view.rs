//! What the console screen shows, drawn from what was seen and nothing else.

use std::net::IpAddr;

use jiff::Timestamp;
use quantix_api::{Check, CheckState, ConsoleView, Nic, SlotName};
use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Paragraph, Wrap},
};

use crate::form::Deed;

/// What there is to show.
#[derive(Debug)]
pub(crate) enum Seen {
    /// The agent answered.
    Agent {
        /// What it said.
        console: Box<ConsoleView>,
        /// When.
        now: Timestamp,
    },
    /// It did not; what can be read without it.
    NoAgent {
        /// The reason.
        why: String,
        /// The host's name.
        hostname: String,
        /// Its interfaces.
        nics: Vec<Nic>,
    },
}

const LABEL: usize = 19;
/// Half of a SHA-256 in pairs, so that it takes two lines.
const FINGERPRINT_LINE: usize = 16 * 3;
const MOST_ADDRESSES: usize = 4;

/// Draws the whole screen.
pub(crate) fn draw(frame: &mut Frame<'_>, seen: &Seen) {
    let [title, _, facts, health, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(facts_height(seen)),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title_line(seen, title.width), title);
    frame.render_widget(Paragraph::new(facts_lines(seen)), facts);
    // No rules and frames: not every console has their characters.
    frame.render_widget(Paragraph::new(health_lines(seen)).wrap(Wrap { trim: false }), health);
    frame.render_widget(footer_line(seen), footer);
}

fn facts_height(seen: &Seen) -> u16 {
    u16::try_from(facts_lines(seen).len() + 1).unwrap_or(u16::MAX)
}

fn title_line(seen: &Seen, width: u16) -> Line<'static> {
    let text = match seen {
        Seen::Agent { console, .. } => {
            let slot = console.host.slot.as_ref().map_or(String::new(), |slot| {
                let name = match slot.name {
                    SlotName::A => "A",
                    SlotName::B => "B",
                };
                format!("   slot {name}{}", if slot.verified { ", verified" } else { ", not verified" })
            });
            format!(" Quantix {}{slot}", console.host.image_version)
        }
        Seen::NoAgent { .. } => " Quantix".to_owned(),
    };
    let deed = match seen {
        Seen::Agent { console, .. } => Deed::possible(console),
        Seen::NoAgent { .. } => None,
    };
    let key = deed.map_or_else(String::new, |deed| format!("{}   ", deed.hint())) + "F5 refresh ";
    let space = usize::from(width).saturating_sub(text.chars().count() + key.len());
    Line::styled(
        format!("{text}{}{key}", " ".repeat(space)),
        Style::new().fg(Color::White).bg(Color::Blue).add_modifier(Modifier::BOLD),
    )
    .style(Style::new().bg(Color::Blue))
}

fn facts_lines(seen: &Seen) -> Vec<Line<'static>> {
    let (hostname, nics) = match seen {
        Seen::Agent { console, .. } => (console.host.hostname.clone(), &console.host.nics),
        Seen::NoAgent { hostname, nics, .. } => (hostname.clone(), nics),
    };
    let mut lines = labelled("Host", vec![hostname.bold()]);
    lines.extend(labelled("Open in a browser", addresses(nics)));
    if let Seen::Agent { console, .. } = seen {
        if !console.certificate_fingerprint.is_empty() {
            let (first, second) = console
                .certificate_fingerprint
                .split_at(FINGERPRINT_LINE.min(console.certificate_fingerprint.len()));
            lines.extend(labelled(
                "Certificate SHA-256",
                vec![Span::from(first.to_owned()), Span::from(second.to_owned())],
            ));
        }
        match &console.first_password {
            Some(password) => {
                lines.extend(labelled("Sign in as", vec!["admin".bold()]));
                lines.extend(labelled(
                    "First password",
                    vec![Span::from(password.expose().to_owned()).bold().light_yellow()],
                ));
                lines.extend(labelled(
                    "",
                    vec!["It is asked for once and replaced by one of your own.".gray()],
                ));
            }
            None => lines.extend(labelled("Sign in", vec!["with the password you chose".into()])),
        }
    }
    lines
}

/// One line a value, the label before the first.
fn labelled(label: &str, values: Vec<Span<'static>>) -> Vec<Line<'static>> {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    values
        .into_iter()
        .zip(labels)
        .map(|(value, label)| Line::from(vec![Span::from(format!("  {label:<LABEL$}  ")).gray(), value]))
        .collect()
}

fn addresses(nics: &[Nic]) -> Vec<Span<'static>> {
    let reachable = nics
        .iter()
        .filter(|nic| nic.link)
        .flat_map(|nic| nic.addresses.iter())
        .filter_map(|address| match address.ip {
            IpAddr::V4(ip) => (!ip.is_link_local()).then(|| format!("https://{ip}")),
            IpAddr::V6(ip) => (!ip.is_unicast_link_local()).then(|| format!("https://[{ip}]")),
        })
        .take(MOST_ADDRESSES)
        .map(|address| Span::from(address).bold().cyan());
    let reachable: Vec<_> = reachable.collect();
    if reachable.is_empty() { vec!["no address yet".yellow()] } else { reachable }
}

/// What works and what does not, in sentences under a heading: the worst first.
fn health_lines(seen: &Seen) -> Vec<Line<'static>> {
    let (heading, mut sentences) = match seen {
        Seen::NoAgent { why, .. } => (
            "Not working",
            vec![
                sentence(CheckState::Failed, why),
                sentence(
                    CheckState::Warn,
                    "It is started again by itself. If this stays, switch the machine off and on.",
                ),
            ],
        ),
        Seen::Agent { console, .. } => {
            let mut checks: Vec<&Check> =
                console.readiness.checks.iter().filter(|check| check.state != CheckState::Ok).collect();
            checks.sort_by_key(|check| std::cmp::Reverse(check.state));
            if checks.is_empty() {
                ("Health", vec![sentence(CheckState::Ok, "Everything works.")])
            } else {
                ("Needs attention", checks.iter().map(|check| sentence(check.state, &check.detail)).collect())
            }
        }
    };
    sentences.insert(0, Line::from(format!("  {heading}")).bold());
    sentences
}

fn sentence(state: CheckState, text: &str) -> Line<'static> {
    let mark = match state {
        CheckState::Ok => Span::from("  + ").green(),
        CheckState::Warn => Span::from("  ! ").yellow(),
        CheckState::Failed => Span::from("  x ").red(),
    };
    Line::from(vec![mark.bold(), Span::from(text.to_owned())])
}

fn footer_line(seen: &Seen) -> Line<'static> {
    let text = match seen {
        Seen::Agent { console, now } => {
            let host = &console.host;
            let clock = if host.clock.synchronised { "" } else { " (no time server)" };
            let minutes = (now.duration_since(host.booted_at).as_secs() / 60).max(0);
            let up = if minutes < 60 {
                format!("{minutes} min")
            } else {
                format!("{} h {} min", minutes / 60, minutes % 60)
            };
            let gib = host.memory.total_bytes.div_ceil(1 << 30);
            format!(
                " {}{clock}   up {up}   {} threads, {gib} GiB",
                now.strftime("%Y-%m-%d %H:%M UTC"),
                host.cpu.threads
            )
        }
        Seen::NoAgent { .. } => String::new(),
    };
    Line::styled(text, Style::new().fg(Color::Gray))
}

#[cfg(test)]
pub(crate) mod tests {
    use quantix_api::{
        Address, Clock, ConsoleCluster, Cpu, Filesystem, HostFacts, Memory, Readiness, Secret, Slot,
    };
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    fn nic(link: bool, addresses: &[&str]) -> Nic {
        Nic {
            name: "eno1".into(),
            mac: "52:54:00:12:34:56".into(),
            link,
            speed_mbit: Some(1000),
            driver: None,
            addresses: addresses.iter().map(|ip| Address { ip: ip.parse().unwrap(), prefix: 24 }).collect(),
        }
    }

    fn now() -> Timestamp {
        "2026-11-20T22:47:00Z".parse().unwrap()
    }

    fn seen(nics: Vec<Nic>, first_password: Option<&str>, checks: Vec<Check>) -> Seen {
        Seen::Agent { console: Box::new(console(nics, first_password, checks)), now: now() }
    }

    /// A host alone.
    pub(crate) fn console(nics: Vec<Nic>, first_password: Option<&str>, checks: Vec<Check>) -> ConsoleView {
        let now = now();
        let host = HostFacts {
            hostname: "quantix".into(),
            machine_id: "a38e790bf6e142e186f76269fa886ba0".into(),
            hardware: "QEMU Standard PC".into(),
            image_version: "0.1.0~dev4.1bb6912".into(),
            slot: Some(Slot { name: SlotName::A, verified: true }),
            kernel: "6.12.117".into(),
            booted_at: "2026-11-20T21:40:00Z".parse().unwrap(),
            clock: Clock { now, synchronised: false },
            cpu: Cpu { model: "x".into(), sockets: 1, cores: 2, threads: 2 },
            memory: Memory { total_bytes: 3 << 30, available_bytes: 2 << 30 },
            nics,
            pci: Vec::new(),
            disks: vec![],
            state_storage: Filesystem { size_bytes: 1, available_bytes: 1, mounted: true, read_only: false },
            services: vec![],
        };
        ConsoleView {
            certificate_fingerprint: vec!["AB"; 32].join(":"),
            first_password: first_password.map(Secret::new),
            readiness: Readiness::of(checks),
            host,
            cluster: Some(ConsoleCluster { hosts: 1, writable: true }),
        }
    }

    fn check(state: CheckState, detail: &str) -> Check {
        Check { name: "x".into(), state, detail: detail.into() }
    }

    fn screen(seen: &Seen) -> String {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, seen)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_fresh_host_says_where_to_go_and_how_to_get_in() {
        insta::assert_snapshot!(screen(&seen(
            vec![nic(true, &["192.0.2.7", "fe80::1", "2001:db8::7"])],
            Some("abcde-fghjk-mnpqr-stuvw"),
            vec![check(CheckState::Ok, "fine")]
        )));
    }

    #[test]
    fn a_host_in_trouble_says_the_worst_first() {
        insta::assert_snapshot!(screen(&seen(
            vec![nic(false, &[])],
            None,
            vec![
                check(
                    CheckState::Warn,
                    "A guest did not run with hardware virtualisation (it started and never got anywhere): guests would be emulated, slowly."
                ),
                check(CheckState::Failed, "No cable is plugged in, or the other end is off: eno1."),
            ]
        )));
    }

    #[test]
    fn a_host_whose_agent_is_down_still_shows_its_address() {
        insta::assert_snapshot!(screen(&Seen::NoAgent {
            why: "The agent on this host does not answer (No such file or directory).".into(),
            hostname: "quantix".into(),
            nics: vec![nic(true, &["192.0.2.7"])],
        }));
    }
}
