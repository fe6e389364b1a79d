//! What somebody changed of a machine where its description has no word for it: settings and devices that are the same for
//! all machines of a kind.

use crate::model::element::Element;

/// What a description consists of, as we draw it or as libvirt completes it.
const PARTS: &[&str] = &[
    "name",
    "uuid",
    "title",
    "description",
    "metadata",
    "maxMemory",
    "memory",
    "currentMemory",
    "vcpu",
    "os",
    "features",
    "cpu",
    "clock",
    "on_poweroff",
    "on_reboot",
    "on_crash",
    "devices",
];

/// Settings, and what they are called where somebody reads of them.
const SETTINGS: &[(&str, &str)] = &[
    ("features", "What its processor and its firmware are told"),
    ("clock", "Its clock"),
    ("on_poweroff", "What follows when it is switched off"),
    ("on_reboot", "What follows when it starts anew"),
    ("on_crash", "What follows when it crashes"),
];

/// Devices, of which there are as many as we drew.
const DEVICES: &[(&str, &str)] = &[
    ("serial", "Its serial line"),
    ("channel", "The way to the agent in it"),
    ("graphics", "Its screen"),
    ("video", "Its graphics card"),
    ("rng", "Its source of random numbers"),
];

/// What strays from the description that we drew, in sentences.
pub fn strayed(drawn: &Element, theirs: &Element) -> Vec<String> {
    let mut all = Vec::new();
    let mut differs = |what: &str| all.push(format!("{what} is set in another way there."));
    for (name, called) in SETTINGS {
        match (drawn.child(name), theirs.child(name)) {
            (Some(ours), Some(theirs)) if holds(theirs, ours) && adds_nothing(theirs, ours) => {}
            (None, None) => {}
            _ => differs(called),
        }
    }
    let features = |domain: &Element| domain.child("cpu").map_or(0, |cpu| cpu.all("feature").count());
    if features(drawn) != features(theirs) {
        differs("Which features its processor has");
    }
    if let (Some(ours), Some(theirs)) = (drawn.child("devices"), theirs.child("devices")) {
        for (name, called) in DEVICES {
            if !hold_all(theirs, ours, name) {
                differs(called);
            }
        }
    }
    let unknown =
        theirs.children.iter().map(|child| child.name.as_str()).filter(|name| !PARTS.contains(name));
    let unknown: Vec<_> = unknown.collect();
    if !unknown.is_empty() {
        all.push(format!("It is told this there, and not here: {}.", unknown.join(", ")));
    }
    all
}

/// Whether everything that we drew is there; libvirt adds to it what it decides by itself.
fn holds(theirs: &Element, ours: &Element) -> bool {
    let says = |(name, value): &(String, String)| theirs.attribute(name) == Some(value);
    ours.attributes.iter().all(says)
        && ours.text.trim() == theirs.text.trim()
        && ours.children.iter().all(|child| hold_all(theirs, ours, &child.name))
}

/// Whether all elements of a name are there as we drew them, and none besides.
fn hold_all(theirs: &Element, ours: &Element, name: &str) -> bool {
    ours.all(name).count() == theirs.all(name).count()
        && theirs.all(name).zip(ours.all(name)).all(|(theirs, ours)| holds(theirs, ours))
}

fn adds_nothing(theirs: &Element, ours: &Element) -> bool {
    theirs.children.iter().all(|child| ours.child(&child.name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWN: &str = "<domain><name>a</name><features><acpi/></features><clock offset='utc'/>
        <devices><graphics type='vnc'><listen type='socket'/></graphics><serial type='pty'/></devices></domain>";

    fn against(theirs: &str) -> Vec<String> {
        strayed(&Element::from_xml(DRAWN).unwrap(), &Element::from_xml(theirs).unwrap())
    }

    #[test]
    fn what_libvirt_adds_by_itself_is_no_difference() {
        assert_eq!(against(DRAWN), Vec::<String>::new());
        let completed = "<domain type='kvm'><name>a</name><currentMemory>1</currentMemory>
            <features><acpi/></features><clock offset='utc' adjustment='0'/>
            <devices><graphics type='vnc' port='-1'><listen type='socket'/></graphics>
            <serial type='pty'><target port='0'/></serial><controller type='usb'/></devices></domain>";
        assert_eq!(against(completed), Vec::<String>::new());
    }

    #[test]
    fn what_somebody_set_in_another_way_is_named() {
        let open = DRAWN.replace("<listen type='socket'/>", "<listen type='address' address='0.0.0.0'/>");
        let second = DRAWN.replace("<serial", "<graphics type='spice'/><serial");
        for theirs in [open, second] {
            assert_eq!(against(&theirs), ["Its screen is set in another way there."]);
        }
        let late = DRAWN.replace("utc", "localtime").replace("<acpi/>", "<acpi/><pae/>");
        assert_eq!(against(&late).len(), 2);
        let limited = DRAWN.replace("<devices>", "<cputune><shares>1</shares></cputune><devices>");
        assert_eq!(against(&limited), ["It is told this there, and not here: cputune."]);
        let missing = DRAWN.replace("<serial type='pty'/>", "");
        assert_eq!(against(&missing), ["Its serial line is set in another way there."]);
    }
}
