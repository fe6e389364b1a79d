//! Looking at a page: how it is shown, what a picture of it is called, and what is wrong with it.

use std::fs;

use base64::Engine;
use serde_json::json;

use crate::{Screen, browser::pictures};

const AXE: &str = include_str!("../axe/axe.min.js");

/// How a page is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What pictures of it are called.
    pub name: &'static str,
    width: u32,
    height: u32,
    scheme: &'static str,
}

/// The ways every page is looked at.
pub const LOOKS: [Look; 3] = [
    Look { name: "light", width: 1440, height: 900, scheme: "light" },
    Look { name: "dark", width: 1440, height: 900, scheme: "dark" },
    Look { name: "phone", width: 390, height: 844, scheme: "light" },
];

impl Screen {
    /// Shows pages in this way from now on.
    pub async fn look_as(&self, look: Look) {
        let size = json!({ "width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look.width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!({ "features": [
            { "name": "prefers-color-scheme", "value": look.scheme },
            { "name": "prefers-contrast", "value": "no-preference" },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Keeps a picture of the whole page as `out/browser/<name>.png`, but with `QUANTIX_PICTURES=0`, where nobody looks at them.
    pub async fn picture(&self, name: &str) {
        if std::env::var("QUANTIX_PICTURES").is_ok_and(|asked| asked == "0") {
            return;
        }
        let shot = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.devtools("Page.captureScreenshot", shot).await;
        let png = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        fs::write(pictures().join(format!("{name}.png")), png).unwrap();
    }

    /// What is wrong with the page, in sentences; nothing, if it is as it should be.
    pub async fn findings(&self) -> Vec<String> {
        let mut findings = self.oddities().await;
        findings.extend(self.barriers().await);
        findings
    }

    /// The same without the eyes of axe-core, which take a second.
    pub async fn oddities(&self) -> Vec<String> {
        let mut findings = self.complaints().await;
        findings.extend(self.shape().await);
        findings
    }

    /// One heading, a title, a language, and nothing that is wider than the screen.
    async fn shape(&self) -> Vec<String> {
        let script = r#"
            const root = document.documentElement, said = [];
            const headings = [...document.querySelectorAll("h1")].filter(isSeen);
            if (headings.length !== 1) said.push(`there are ${headings.length} headings of the first level`);
            if (!/^\S.* · Quantix$/.test(document.title)) said.push(`the title is “${document.title}”`);
            if (!root.lang) said.push("the page does not say its language");
            if (document.querySelectorAll("main").length !== 1) said.push("there is not exactly one main part");
            const width = visualViewport.width * visualViewport.scale;
            if (root.scrollWidth > Math.ceil(width)) {
                const wide = [...document.body.querySelectorAll("*")].filter((one) => {
                    if (!isSeen(one) || one.getBoundingClientRect().right <= width + 1) return false;
                    for (let up = one.parentElement; up; up = up.parentElement)
                        if (getComputedStyle(up).overflowX !== "visible") return false;
                    return true;
                });
                const names = wide.slice(0, 4).map((one) => `${one.localName}.${one.className} “${nameOf(one).slice(0, 40)}”`);
                said.push(`the page is ${root.scrollWidth} wide on a screen of ${width}: ${names.join(", ")}`);
            }
            for (const one of document.querySelectorAll("script:not([src]), style, [style], [onclick], [onload], [onerror]"))
                if (!one.matches("script[type='application/json']")) said.push(`inline: ${one.outerHTML.slice(0, 120)}`);
            return said;"#;
        let said = self.ask(script, &[]).await.unwrap();
        said.as_array().into_iter().flatten().map(|line| line.as_str().unwrap().to_owned()).collect()
    }

    /// What axe-core finds.
    async fn barriers(&self) -> Vec<String> {
        let loaded = self.ask("return typeof axe === 'object'", &[]).await.unwrap();
        if loaded != json!(true) {
            self.window.execute(AXE, &[]).await.unwrap();
        }
        let script = r#"
            const done = arguments[arguments.length - 1];
            // What is dark differs from what is light in its colours alone, and a phone shows the colours of what is light.
            const options = { resultTypes: ["violations"] };
            if (matchMedia("(prefers-color-scheme: dark)").matches) options.runOnly = ["color-contrast"];
            else if (innerWidth < 600) options.rules = { "color-contrast": { enabled: false } };
            axe.run(document, options).then(
                (found) => done(found.violations.map((one) =>
                    `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + " " + node.failureSummary).join(" | ")}`)),
                (error) => done(["axe-core failed: " + error]));"#;
        let said = self.window.execute_async(script).await.unwrap();
        said.as_array().into_iter().flatten().map(|line| line.as_str().unwrap().to_owned()).collect()
    }
}
