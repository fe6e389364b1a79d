//! Virtual machines, as people make them and look after them.

use quantix_api::{
    ImageState, NewFolder, NewImage, NewVm, PoolState, PowerVm, Secret, TaskQuery, TaskState, VmAction,
    VmQuery, VmSpec, VmState, calls,
};
use quantix_browser::{Desk, Host, Key, LOOKS, until};

#[tokio::test]
async fn a_machine_is_made_and_switched_and_removed() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.follow("VMs").await;
    desk.sees("No virtual machines yet").await;
    desk.follow("Make the first").await;
    desk.heading("New virtual machine").await;
    // What is wrong is said beside the field, and what was filled in stays.
    desk.fill("Name", "a/b").await;
    desk.press("Next").await;
    desk.sees("A name is one line").await;
    desk.fill("Name", "web-01").await;
    goes_on(&desk, "Size").await;
    desk.fill("Memory in MiB", "64").await;
    desk.fill("Disk in GiB optional", "2").await;
    goes_on(&desk, "Network").await;
    desk.fill("Network cards optional", "").await;
    // Nobody gets into what begins as no image.
    goes_on(&desk, "Review").await;
    desk.sees("2 GiB in local, empty").await;
    desk.press("Make it").await;
    desk.heading("web-01").await;
    desk.sees("web-01 is being made.").await;
    // The page changes by itself.
    desk.shows("button", "Pause").await;
    desk.sees("Running").await;
    desk.press("Pause").await;
    desk.sees("Stands still").await;
    desk.press("Resume").await;
    desk.sees("Running").await;
    desk.press("Force off").await;
    desk.shows("button", "Start").await;
    desk.follow("Edit").await;
    desk.heading("Edit web-01").await;
    desk.fill("What it is for optional", "Answers for the shop").await;
    desk.fill("Processor model optional", "no such model").await;
    desk.press("Save").await;
    desk.sees("A processor is called by its name in libvirt").await;
    desk.fill("Processor model optional", "").await;
    desk.choose("Starts first from", "The network").await;
    desk.press("Save").await;
    desk.sees("Answers for the shop").await;
    // Its disk, and another.
    desk.sees("web-01-disk-1").await;
    desk.press("Add a disk").await;
    desk.fill("Size in GiB", "3").await;
    desk.press("Add it").await;
    desk.sees("web-01-disk-2").await;
    desk.follow("Storage").await;
    desk.heading("Storage").await;
    desk.follow("web-01-disk-2").await;
    desk.heading("web-01-disk-2").await;
    desk.fill("MiB a second", "50").await;
    desk.press("Limit it").await;
    desk.sees("It is limited.").await;
    desk.fill("New size in GiB", "5").await;
    desk.press("Grow").await;
    desk.sees("5 GiB").await;
    desk.fill("Its name", "web-01-data").await;
    desk.press("Rename").await;
    desk.heading("web-01-data").await;
    desk.open("/vms").await;
    desk.sees("web-01").await;
    desk.follow("web-01").await;
    desk.follow("Remove…").await;
    desk.fill("To go on, type web-01", "web-01").await;
    desk.press("Remove").await;
    desk.sees("No virtual machines yet").await;
    desk.follow("Storage").await;
    desk.sees("No volumes yet").await;
    // A volume by itself.
    desk.follow("New volume").await;
    desk.heading("New volume").await;
    desk.fill("Name", "spare").await;
    desk.fill("Size in GiB", "1").await;
    desk.press("Make it").await;
    desk.heading("spare").await;
    desk.sees("Not used").await;
    desk.follow("Remove…").await;
    desk.fill("To go on, type spare", "spare").await;
    desk.press("Remove").await;
    desk.sees("No volumes yet").await;
    // What holds for the pool.
    desk.follow("local").await;
    desk.heading("The pool local").await;
    desk.fill("Takes nothing new from this share on, in per cent", "85").await;
    desk.press("Save").await;
    desk.heading("Storage").await;
}

/// As somebody chooses a file in the dialog of the browser.
const CHOOSE: &str = "const chooser = document.querySelector('[data-read] + input');
    const chosen = new DataTransfer();
    chosen.items.add(new File([arguments[1]], arguments[0]));
    chooser.files = chosen.files;
    chooser.dispatchEvent(new Event('change', { bubbles: true }));";

#[tokio::test]
async fn a_machine_is_told_who_gets_in_and_that_can_be_changed() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open("/vms/new").await;
    desk.fill("Name", "web-01").await;
    goes_on(&desk, "Size").await;
    desk.fill("Memory in MiB", "64").await;
    desk.fill("Disk in GiB optional", "").await;
    goes_on(&desk, "Network").await;
    desk.fill("Network cards optional", "").await;
    desk.follow("First login").await;
    desk.shows("heading", "First login").await;
    desk.fill("Address at which SSH keys are", "https://127.0.0.1/ada.keys").await;
    desk.press("Keys from an address").await;
    desk.sees("is in a private network").await;
    desk.fill("User optional", "root; reboot").await;
    desk.fill("Password optional", "a password of the guest").await;
    desk.press("Next").await;
    desk.sees("This is not the same password as before it.").await;
    desk.fill("The same again optional", "a password of the guest").await;
    desk.press("Next").await;
    desk.sees("A user name is at most 32").await;
    desk.fill("User optional", "ops").await;
    // Keys come from files; one that is private stays there.
    for (file, text) in [("id", "-----BEGIN OPENSSH PRIVATE KEY-----"), ("id.pub", crate::wizard::KEY)] {
        desk.ask(CHOOSE, &[file, text]).await.unwrap();
    }
    desk.sees("id is a private key, which stays where it is.").await;
    desk.until_true(
        "the key is there",
        "return document.getElementById('cloud_init.ssh_keys').value === arguments[0]",
        crate::wizard::KEY,
    )
    .await;
    // Nothing is lost on the way, a password neither.
    goes_on(&desk, "Review").await;
    desk.sees("ops, with a password").await;
    desk.sees("1 SSH key").await;
    desk.press("Make it").await;
    desk.heading("web-01").await;
    desk.follow("who gets in, and more").await;
    desk.heading("Who gets in").await;
    desk.sees("Keep the password there is").await;
    desk.fill("Addresses optional", "192.0.2.10").await;
    desk.press("Save").await;
    desk.sees("There are addresses for more network cards than the machine has.").await;
    desk.fill("Addresses optional", "").await;
    desk.fill("Host name optional", "shop").await;
    desk.press("Save").await;
    desk.sees("The guest does what it is told").await;
    desk.follow("who gets in, and more").await;
    desk.press("Tell it nothing").await;
    desk.follow("say who gets in").await;
    desk.heading("Who gets in").await;
}

#[tokio::test]
async fn a_machine_is_started_in_its_console_and_used_there() {
    let host = Host::with_machines("qx-01").await;
    let (client, session) = (host.agent(), host.session().await);
    let mut spec = VmSpec::named("web-01");
    spec.memory.mib = 128;
    let task = client.call(&calls::make_vm(&NewVm::usual(spec)).as_session(&session)).await.unwrap();
    let id = task.object.strip_prefix("vm/").unwrap().to_owned();
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open(&format!("/console?vm={id}")).await;
    desk.sees("web-01 is off.").await;
    desk.picture("console.off").await;
    desk.press("Start it").await;
    // The firmware draws on the screen, and the picture of it is not of one colour.
    desk.until_true("the screen is drawn", SCREEN_IS_DRAWN, "").await;
    desk.picture("console.screen").await;
    desk.press("Keys").await;
    desk.press("Ctrl Alt Del").await;
    desk.press("web-01, serial").await;
    desk.until_true("the firmware speaks", SERIAL_SAYS, "Shell>").await;
    desk.picture("console.serial").await;
    assert_eq!(but_for_drawing(desk.oddities().await), Vec::<String>::new());

    // Its page has a picture of that.
    desk.open(&format!("/vms/{id}")).await;
    desk.until_true("the picture is there", PICTURE_IS_THERE, "").await;
    desk.picture("vms--vm.on").await;
    assert_eq!(desk.findings().await, Vec::<String>::new());
    desk.open(&format!("/console?vm={id}")).await;
    desk.press("web-01, serial").await;
    desk.until_true("the line is there again", SERIAL_IS_OPEN, "").await;

    // Somebody else has the serial line, and it can be taken.
    let other = Desk::at(&host).await;
    other.sign_in().await;
    other.open(&format!("/console?vm={id}")).await;
    other.press("web-01, serial").await;
    other.sees("Somebody else has the serial line of web-01.").await;
    other.press("Take it over").await;
    desk.sees("Somebody else has taken the serial line.").await;
    other.press("web-01").await;
    other.until_true("the screen is drawn for both", SCREEN_IS_DRAWN, "").await;

    // It is switched off there by whoever is sure, and back on by somebody.
    for answer in ["Cancel", "Yes, force off"] {
        other.press("Power").await;
        other.press("Force off").await;
        other.sees("Force off web-01?").await;
        other.picture("console.sure").await;
        other.press(answer).await;
    }
    other.sees("web-01 is off.").await;
    until("it is off", async || {
        let vm = client.call(&calls::vm(&id).as_session(&session)).await.unwrap();
        vm.state == VmState::Stopped && vm.task.is_none()
    })
    .await;
    let call = calls::power_vm(&id, &PowerVm::usual(VmAction::Start)).as_session(&session);
    client.call(&call).await.unwrap();
    other.until_true("the screen comes back by itself", SCREEN_IS_DRAWN, "").await;
    // Those that are ticked are in one window, each once.
    let call = calls::make_vm(&NewVm::usual(VmSpec::named("web-02"))).as_session(&session);
    let second = client.call(&call).await.unwrap().object.strip_prefix("vm/").unwrap().to_owned();
    let leads = desk.ask(TICKED_LEADS_TO, &[&id, &second]).await.unwrap();
    other.open(leads.as_str().unwrap()).await;
    for tab in ["web-01", "web-01, serial", "web-02", "web-02, serial"] {
        other.shows("button", tab).await;
    }
    desk.press("web-01").await;
    desk.look_as(LOOKS[2]).await;
    desk.until_true("the screen fits", SCREEN_FITS, "").await;
    desk.picture("console.phone").await;
    assert_eq!(but_for_drawing(desk.findings().await), Vec::<String>::new());
}

/// What is said of a page, but for what noVNC and xterm.js draw with, and that this test looks at the picture.
fn but_for_drawing(mut findings: Vec<String>) -> Vec<String> {
    findings.retain(|finding| !finding.starts_with("inline: <") && !finding.contains("willReadFrequently"));
    findings
}

const SCREEN_IS_DRAWN: &str = r#"
    const panel = document.querySelector("[data-console]:not([hidden])");
    const canvas = panel.querySelector("canvas");
    if (panel.dataset.state !== "open" || !canvas) return false;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value, at) => value !== data[at % 4]);
"#;

const TICKED_LEADS_TO: &str = r#"
    const [one, other] = arguments;
    const said = new URLSearchParams([["vm", one], ["vm", other], ["vm", one], ["deed", "consoles"]]);
    return fetch("/vms/many", { method: "POST", body: said }).then(({ url }) => url.slice(location.origin.length));
"#;

const PICTURE_IS_THERE: &str = "return document.querySelector('.screen img')?.naturalWidth > 300";

const SERIAL_IS_OPEN: &str = "return document.querySelector('[data-kind=serial]').dataset.state === 'open'";

const SCREEN_FITS: &str = r#"
    const { width } = document.querySelector("[data-console]:not([hidden]) canvas").getBoundingClientRect();
    return width > 200 && width <= innerWidth;
"#;

const SERIAL_SAYS: &str = r#"
    const rows = document.querySelector("[data-console]:not([hidden]) .xterm-rows");
    return rows?.textContent.includes(arguments[0]) ?? false;
"#;

/// Goes on to the next step of a new machine.
pub(crate) async fn goes_on(desk: &Desk, step: &str) {
    desk.press("Next").await;
    desk.shows("heading", step).await;
}

/// Waits until a host has told of its pool.
pub(crate) async fn has_pool(host: &Host) {
    let session = host.session().await;
    until("the pool is there", async || {
        let pools = host.agent().call(&calls::pools().as_session(&session)).await;
        pools.is_ok_and(|pools| {
            pools.items.iter().any(|pool| pool.hosts.iter().any(|there| there.state == PoolState::Ready))
        })
    })
    .await;
}

#[tokio::test]
async fn machines_are_put_into_folders_with_the_keyboard_and_with_the_mouse() {
    let host = Host::with_machines("qx-01").await;
    let session = host.session().await;
    for name in ["web-01", "web-02"] {
        let mut spec = VmSpec::named(name);
        spec.memory.mib = 64;
        let new = NewVm::usual(spec);
        host.agent().call(&calls::make_vm(&new).as_session(&session)).await.unwrap();
    }
    let new = NewFolder { name: "Production".into(), parent: None };
    let folder = host.agent().call(&calls::make_folder(&new).as_session(&session)).await.unwrap().id;
    let are_in = async |count: usize| {
        until(&format!("{count} are in the folder"), async || {
            let query = VmQuery { folder: Some(folder), ..VmQuery::default() };
            let found = host.agent().call(&calls::vms(&query).as_session(&session)).await;
            found.is_ok_and(|page| {
                page.items.len() == count && page.items.iter().all(|vm| vm.state == VmState::Stopped)
            })
        })
        .await;
    };
    // While a machine is being made it is put nowhere.
    until("both are made", async || {
        let tasks =
            host.agent().call(&calls::tasks(&TaskQuery::default()).as_session(&session)).await.unwrap();
        assert!(tasks.items.iter().all(|task| task.state != TaskState::Failed), "{:?}", tasks.items);
        let found = host.agent().call(&calls::vms(&VmQuery::default()).as_session(&session)).await;
        found.is_ok_and(|page| page.items.len() == 2 && page.items.iter().all(|vm| vm.task.is_none()))
    })
    .await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open("/vms").await;
    desk.sees("web-02").await;
    desk.tab_to("field", "Tick web-01").await;
    desk.key(Key::Space).await;
    desk.choose("Folder", "Production").await;
    desk.press("Move there").await;
    desk.sees("web-01 is somewhere else now.").await;
    are_in(1).await;
    // What a mouse does, as the browser tells it to the page.
    let drag = "
        const data = new DataTransfer();
        const row = [...document.querySelectorAll('tr[data-drag]')].find((row) => row.textContent.includes(arguments[0]));
        const place = [...document.querySelectorAll('li[data-drop]')].find((place) => place.textContent.includes('Production'));
        const tell = (on, kind) => on.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data }));
        if (!row.draggable) throw new Error('it cannot be dragged');
        tell(row, 'dragstart'); tell(place, 'dragover'); tell(place, 'drop');";
    desk.ask(drag, &["web-02"]).await.unwrap();
    are_in(2).await;
    desk.sees("web-02 is somewhere else now.").await;
    // What is ticked stays ticked when the list is drawn anew.
    desk.open("/vms").await;
    desk.tab_to("field", "Tick web-02").await;
    desk.key(Key::Space).await;
    let mut spec = VmSpec::named("web-03");
    spec.memory.mib = 64;
    let new = NewVm::usual(spec);
    host.agent().call(&calls::make_vm(&new).as_session(&session)).await.unwrap();
    desk.sees("web-03").await;
    let is_ticked = "return [...document.querySelectorAll('input[name=vm]:checked')].length === 1";
    desk.until_true("it is still ticked", is_ticked, "").await;
}

#[tokio::test]
async fn an_image_is_brought_and_a_disk_begins_as_a_copy_of_it() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("debian-13-genericcloud-amd64.raw");
    let mut disk = vec![0; 9 << 20];
    disk[510..512].copy_from_slice(b"\x55\xaa");
    std::fs::write(&file, disk).unwrap();
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.follow("Storage").await;
    desk.follow("Images").await;
    desk.sees("No images yet").await;
    desk.fill("Files", &file.display().to_string()).await;
    desk.fill("Name optional", "Debian 13").await;
    desk.fill("SHA-256 optional", &"0".repeat(63)).await;
    desk.press("Upload").await;
    desk.sees("64 hexadecimal digits").await;
    desk.fill("SHA-256 optional", "").await;
    desk.press("Upload").await;
    desk.sees("It has come").await;
    desk.sees("Ready").await;
    desk.sees("debian 13").await;
    desk.open("/vms/new").await;
    desk.fill("Name", "web-01").await;
    desk.choose("Its disk begins as a copy of optional", "Debian 13 (9 MiB)").await;
    goes_on(&desk, "Size").await;
    desk.fill("Disk in GiB optional", "3").await;
    goes_on(&desk, "Network").await;
    desk.fill("Network cards optional", "").await;
    goes_on(&desk, "First login").await;
    desk.press("Next").await;
    desk.sees("Nobody would get in: Debian 13 is a cloud image.").await;
    desk.picture("vms-new.nobody-gets-in").await;
    desk.tick("The image has a way in of its own").await;
    goes_on(&desk, "Review").await;
    desk.sees("3 GiB in local, a copy of Debian 13").await;
    desk.press("Make it").await;
    desk.heading("web-01").await;
    desk.sees("web-01-disk-1").await;
    desk.sees("3 GiB").await;
    desk.open("/storage/images").await;
    desk.follow("Edit Debian 13").await;
    desk.fill("System optional", "plan9").await;
    desk.press("Save").await;
    desk.sees("A system is one of").await;
    desk.fill("System optional", "rocky").await;
    desk.fill("Version optional", "9").await;
    desk.press("Save").await;
    desk.sees("rocky 9").await;
    desk.follow("Remove… Debian 13").await;
    desk.fill("To go on, type Debian 13", "Debian 13").await;
    desk.press("Remove").await;
    desk.sees("No images yet").await;
}

#[expect(clippy::disallowed_methods, reason = "tests prepare what the product finds")]
fn ova(folder: &std::path::Path) -> std::path::PathBuf {
    let item =
        |kind: u8, what: &str| format!("<Item><rasd:ResourceType>{kind}</rasd:ResourceType>{what}</Item>");
    let count = |count: u32| format!("<rasd:VirtualQuantity>{count}</rasd:VirtualQuantity>");
    let disk = |file: &str| format!("<rasd:HostResource>/file/{file}</rasd:HostResource>");
    let hardware =
        [item(3, &count(2)), item(4, &count(64)), item(17, &disk("one")), item(17, &disk("two"))].concat();
    let ovf = format!(
        "<Envelope><References><File id='one' href='one.raw'/><File id='two' href='two.raw'/></References>\
         <VirtualSystem><Name>Shop</Name><VirtualHardwareSection>{hardware}</VirtualHardwareSection></VirtualSystem></Envelope>"
    );
    std::fs::write(folder.join("shop.ovf"), ovf).unwrap();
    for name in ["one.raw", "two.raw"] {
        let mut disk = vec![0; 1 << 20];
        disk[510..512].copy_from_slice(b"\x55\xaa");
        std::fs::write(folder.join(name), disk).unwrap();
    }
    let ova = folder.join("shop.ova");
    let mut tar = std::process::Command::new("tar");
    tar.args(["--format=ustar", "-C"]).arg(folder).arg("-cf").arg(&ova);
    assert!(tar.args(["shop.ovf", "one.raw", "two.raw"]).status().unwrap().success());
    ova
}

#[tokio::test]
async fn a_machine_that_was_exported_elsewhere_is_brought_and_made() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open("/storage/images").await;
    desk.fill("Files", &ova(folder.path()).display().to_string()).await;
    desk.fill("Name optional", "Shop").await;
    desk.press("Upload").await;
    desk.sees("Shop, disk 2").await;
    desk.open("/storage/images").await;
    desk.follow("Make the machine Shop").await;
    desk.heading("New virtual machine").await;
    desk.sees("With the other disk that came with it, of 1 GiB").await;
    for step in ["Size", "Network", "First login", "Review"] {
        goes_on(&desk, step).await;
    }
    desk.press("Make it").await;
    desk.heading("Shop").await;
    desk.sees("2 vCPU").await;
    desk.sees("Shop-disk-1").await;
    desk.sees("Shop-disk-2").await;
    desk.sees("BIOS").await;
    assert_eq!(desk.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_fetched_is_said_beside_its_field_or_by_its_task() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open("/storage/images").await;
    desk.fill("Address optional", "http://192.0.2.1/debian-13.qcow2").await;
    desk.press("Fetch").await;
    desk.sees("Over http anybody on the way can change a file.").await;
    desk.fill("Address optional", "https://127.0.0.1:1/debian-13.qcow2").await;
    desk.fill("Called optional", "Debian 13").await;
    desk.press("Fetch").await;
    desk.sees("Debian 13 is being fetched.").await;
    // This machine is in a private network of its own.
    desk.sees("No images yet").await;
    desk.open("/activity/tasks").await;
    desk.follow("Fetch the image Debian 13").await;
    desk.sees("is in a private network").await;
}

/// An image that is ready; gives its id.
pub(crate) async fn has_image(host: &Host, session: &Secret) -> String {
    let mut disk = vec![0; 1 << 20];
    disk[510..512].copy_from_slice(b"\x55\xaa");
    let new = NewImage {
        name: "Debian 13".into(),
        file: "debian-13-genericcloud-amd64.raw".into(),
        pool: "local".into(),
        length: disk.len() as u64,
        sha256: None,
    };
    let id = host.agent().call(&calls::make_image(&new).as_session(session)).await.unwrap().id;
    host.agent().call(&calls::bring_image(&id, 0, disk).as_session(session)).await.unwrap();
    host.agent().call(&calls::finish_image(&id).as_session(session)).await.unwrap();
    until("the image is ready", async || {
        let image = host.agent().call(&calls::image(&id).as_session(session)).await.unwrap();
        image.state == ImageState::Ready
    })
    .await;
    id
}

#[tokio::test]
async fn the_menu_of_a_row_does_what_can_be_done_with_its_machine() {
    let host = Host::with_machines("qx-01").await;
    let session = host.session().await;
    let mut spec = VmSpec::named("web-01");
    spec.memory.mib = 64;
    let new = NewVm { start: true, ..NewVm::usual(spec) };
    host.agent().call(&calls::make_vm(&new).as_session(&session)).await.unwrap();
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open("/vms?state=").await;
    desk.until_true(
        "it runs",
        "return document.querySelector('tbody .state')?.textContent === 'Running'",
        "",
    )
    .await;
    desk.press("What can be done with web-01").await;
    desk.press("Pause").await;
    desk.sees("web-01 is made to stand still").await;
    desk.until_true(
        "it stands still",
        "return document.querySelector('tbody .state')?.textContent === 'Stands still'",
        "",
    )
    .await;
    desk.is_at("/vms").await;
    // Where one asks for it in the row it opens, too.
    let asked = "const cell = document.querySelector('tr[data-drag] td:nth-child(4)'); \
                 const { left, top } = cell.getBoundingClientRect(); \
                 const event = { bubbles: true, cancelable: true, clientX: left + 5, clientY: top + 5 }; \
                 cell.dispatchEvent(new MouseEvent('contextmenu', event)); \
                 const menu = document.querySelector('.menu:popover-open').getBoundingClientRect(); \
                 return Math.abs(menu.left - left - 5) < 2 && Math.abs(menu.top - top - 5) < 2";
    assert_eq!(desk.ask(asked, &[]).await.unwrap(), true);
    desk.press("Resume").await;
    desk.until_true(
        "it runs again",
        "return document.querySelector('tbody .state')?.textContent === 'Running'",
        "",
    )
    .await;
    assert_eq!(desk.complaints().await, Vec::<String>::new());
}
