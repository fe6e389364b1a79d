//! Several machines on one segment become a cluster, and lose some of it.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use quantix_qemu::{
    BOOT_BOUND, Browser, Machine, Segment, note,
    pages::{expect_redirect, sign_in, sign_in_first_time},
    wait_until,
};

use crate::count;

const PASSWORD: &str = "correct horse battery";
/// Machines that boot at once share two processors.
const TOGETHER: u32 = 4;
/// What hosts do with each other takes seconds; emulated, on a busy machine, more.
const SOON: Duration = Duration::from_secs(120);

#[test]
fn three_machines_become_a_cluster_that_bears_the_loss_of_its_leader() {
    let segment = Segment::new();
    let hosts = u8::try_from(count(3, 4)).unwrap();
    let mut machines: Vec<_> = (1..=hosts)
        .map(|number| Machine::builder().number(number).memory(2048).nic(&segment).start())
        .collect();
    for machine in &mut machines {
        machine.wait_ready(BOOT_BOUND * TOGETHER);
    }

    // One makes a token, the others join with it.
    let mut first = sign_in_first_time(&mut machines[0], PASSWORD);
    let token = make_token(&mut first, "The others").unwrap();
    let address = address(&mut machines[0]).to_string();
    join_at_the_console(&mut machines[1], &address, &token);
    for machine in &mut machines[2..] {
        let mut browser = sign_in_first_time(machine, PASSWORD);
        let answer = browser.post("/cluster/join", &[("address", &address), ("token", &token)]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("This host joins"), "{}", answer.text());
    }
    let all = format!("{hosts} hosts");
    wait_until("three voters", SOON, || {
        let page = first.get("/cluster").text();
        (page.contains(&all) && page.contains("bears the loss of one") && !page.contains("Let in"))
            .then_some(())
    });
    if hosts == 4 {
        assert_eq!(first.get("/cluster").text().matches("Stands by").count(), 1);
    }

    // The leader's power is cut: any other host answers, and soon one of them leads.
    let cut = Instant::now();
    machines[0].power_cut();
    let mut second = signed_in(&mut machines[1]);
    note(format!("Signed in at another host {:.1} s after the power cut.", cut.elapsed().as_secs_f32()));
    change(&mut machines[1], &mut second, "Made without the first");
    note(format!("The first change {:.1} s after the power cut.", cut.elapsed().as_secs_f32()));
    let mut third = signed_in(&mut machines[2]);
    assert!(third.get("/cluster").text().contains("Made without the first"));

    // It comes back and catches up.
    machines[0].power_on();
    machines[0].wait_ready(BOOT_BOUND * 2);
    let mut first = signed_in(&mut machines[0]);
    wait_until("the first to have everything", SOON, || {
        let page = first.get("/cluster").text();
        let up_to_date = page.matches("Up to date").count() == usize::from(hosts);
        (up_to_date && page.contains("Made without the first")).then_some(())
    });

    if hosts == 4 {
        replace_a_voter(&mut machines, &mut first);
    }
    restart_one_after_the_other(&mut machines);
}

/// At the machine itself nobody has to choose a password first: it goes when the host joins.
fn join_at_the_console(machine: &mut Machine, address: &str, token: &str) {
    const F3: &str = "\x1bOR";
    machine.wait_for_text("F3 join a cluster", SOON);
    machine.console().keys(F3);
    machine.wait_for_text("Token", SOON);
    machine.console().keys(&format!("{address}\r{token}\r"));
    machine.wait_for_text("This host joins.", SOON);
    machine.console().keys(" ");
    machine.wait_for_text("with the password you chose", SOON);
}

/// The fourth takes the place of a voter that is removed.
fn replace_a_voter(machines: &mut Vec<Machine>, browser: &mut Browser) {
    let page = browser.get("/cluster").text();
    let gone = machines.remove(2);
    let name = hostname_of(&page, &gone);
    drop(gone);
    let remove = page.split('"').filter(|part| part.ends_with("/remove")).find(|path| {
        let confirm = browser.get(path).text();
        confirm.contains(&format!("Remove {name} "))
    });
    expect_redirect(&browser.post(remove.unwrap(), &[("name", &name)]), "/cluster");
    wait_until("the fourth to vote", SOON, || {
        let page = browser.get("/cluster").text();
        (page.contains("3 hosts") && page.contains("bears the loss of one")).then_some(())
    });
}

/// Hosts are named after their machine-id, which follows from the machine's number.
fn hostname_of(page: &str, machine: &Machine) -> String {
    let number = format!("{:02x}", machine.mac()[5]);
    let names = page.split("<b>").filter_map(|part| part.split('<').next());
    names.filter(|name| name.ends_with(&number)).map(str::to_owned).next().unwrap()
}

/// No write is lost or refused for good while every host restarts, one at a time.
fn restart_one_after_the_other(machines: &mut [Machine]) {
    for at in 0..count(1, machines.len()) {
        let other = (at + 1) % machines.len();
        machines[at].reboot();
        let mut browser = signed_in(&mut machines[other]);
        let purpose = format!("Made while host {at} restarts");
        change(&mut machines[other], &mut browser, &purpose);
        machines[at].wait_ready(BOOT_BOUND * 2);
        let mut back = signed_in(&mut machines[at]);
        wait_until("the change to be there", SOON, || {
            back.get("/cluster").text().contains(&purpose).then_some(())
        });
    }
}

/// Makes a change as soon as somebody leads.
fn change(machine: &mut Machine, browser: &mut Browser, purpose: &str) {
    wait_until("a change to be made", SOON, || {
        make_token(browser, purpose).or_else(|| {
            // A session opened while nobody leads ends when somebody does.
            *browser = signed_in(machine);
            None
        })
    });
}

fn make_token(browser: &mut Browser, purpose: &str) -> Option<String> {
    let answer = browser.post("/cluster/tokens", &[("purpose", purpose), ("hours", "24"), ("uses", "9")]);
    let text = answer.text();
    let start = text.find("QUANTIX-")?;
    text.get(start..start + "QUANTIX-XXXX-XXXX-XXXX-XXXX".len()).map(str::to_owned)
}

fn signed_in(machine: &mut Machine) -> Browser {
    wait_until("the way in", SOON, || {
        let mut browser = machine.https();
        (sign_in(&mut browser, PASSWORD).location() == "/overview").then_some(browser)
    })
}

/// Its address on the segment. Each has an IPv4 address in a network of its own.
fn address(machine: &mut Machine) -> IpAddr {
    let text = machine.run("ip -6 -brief address show scope site | awk '/^e/ { print $3; exit }'").ok();
    text.split('/').next().unwrap().parse::<Ipv6Addr>().unwrap().into()
}
