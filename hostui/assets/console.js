// Consoles: the screens and serial lines of machines, each in a tab. What is shown and typed goes over a WebSocket, to which
// the host gives out a way that is good once. What ends one is told as a code and a sentence.

const body = document.body;
const all = (selector) => [...document.querySelectorAll(selector)];
const find = (selector) => document.querySelector(selector);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const STARTS_WITHIN_MS = 60_000;

class Refused extends Error {
  constructor(code, sentence) {
    super(sentence);
    this.code = code;
  }
}

async function ask(address, said) {
  let answer;
  try {
    answer = await fetch(address, { method: "POST", body: new URLSearchParams(said), headers: { accept: "application/json" } });
  } catch {
    throw new Refused("host-unreachable", "The host is not heard.");
  }
  if (answer.redirected) throw new Refused("sign-in-needed", "Your session has ended. Sign in again.");
  const told = await answer.json().catch(() => ({ code: "unavailable", detail: "This did not work." }));
  if (told.code) throw new Refused(told.code, told.detail);
  return told;
}

// xterm.js writes its rules into style elements that it makes when it opens, which pages here do not allow. What it is given
// instead puts the same text into a style sheet of the document.
function styled() {
  const sheet = new CSSStyleSheet();
  const element = Document.prototype.createElement.call(document, "template");
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, "textContent", { set: (text) => sheet.replaceSync(text), get: () => "" });
  return element;
}

function withoutStyleElements(work) {
  document.createElement = (tag, ...more) =>
    tag === "style" ? styled() : Document.prototype.createElement.call(document, tag, ...more);
  try {
    return work();
  } finally {
    delete document.createElement;
  }
}

class Console {
  constructor(panel) {
    this.panel = panel;
    this.kind = panel.dataset.kind;
    this.stage = panel.querySelector(".stage");
    this.cover = panel.querySelector(".cover");
    this.sentence = panel.querySelector("[data-sentence]");
    this.tab = find(`#${panel.getAttribute("aria-labelledby")}`);
    this.state = "idle";
    if ("off" in panel.dataset) this.says("closed", `${panel.dataset.machine} is off.`, "vm-not-running");
    for (const button of panel.querySelectorAll("[data-do]")) button.addEventListener("click", () => this.does(button.dataset.do));
  }

  does(deed) {
    if (deed === "start") return this.start();
    return this.connect({ takeOver: deed === "take" });
  }

  says(state, sentence, code = "") {
    this.state = state;
    this.panel.dataset.state = state;
    this.panel.dataset.code = code;
    this.tab.dataset.state = state;
    this.sentence.textContent = sentence;
    this.cover.hidden = state === "open";
    const offers = { again: state === "closed" && code !== "vm-not-running", take: code === "console-busy", start: code === "vm-not-running" };
    for (const button of this.panel.querySelectorAll("[data-do]")) button.hidden = !offers[button.dataset.do];
    tools();
  }

  async start() {
    this.says("busy", "It is being started, and waits for this console…");
    try {
      await ask(`${this.panel.dataset.address}/power/start`, {});
    } catch (error) {
      return this.says("closed", error.message, error.code);
    }
    const begun = Date.now();
    while (this.state === "busy") {
      await this.connect({ quiet: true });
      if (this.state === "open") return;
      if (this.panel.dataset.code !== "vm-not-running" || Date.now() - begun > STARTS_WITHIN_MS) return;
      this.says("busy", "It is being started, and waits for this console…");
      await wait(300);
    }
  }

  async connect({ takeOver = false, quiet = false } = {}) {
    this.end();
    const attempt = (this.attempt = (this.attempt ?? 0) + 1);
    if (!quiet) this.says("busy", "Connecting…");
    try {
      // Nothing is there to be missed before somebody can read it.
      const drawn = await import(this.kind === "screen" ? body.dataset.novnc : body.dataset.xterm);
      const said = { kind: this.kind, ...(takeOver && { take_over: "true" }) };
      const { address } = await ask(this.panel.dataset.address, said);
      if (attempt !== this.attempt) return;
      const place = new URL(address, location.href);
      place.protocol = "wss:";
      const socket = new WebSocket(place);
      socket.binaryType = "arraybuffer";
      await this.opens(socket, drawn);
    } catch (error) {
      if (attempt === this.attempt) this.says("closed", error.message, error.code);
    }
  }

  // Resolves when the first thing comes, or it is known why nothing does.
  async opens(socket, drawn) {
    this.socket = socket;
    const { promise, resolve } = Promise.withResolvers();
    socket.addEventListener("close", ({ code, reason }) => {
      if (this.socket === socket) this.closed(code, reason);
      resolve();
    });
    if (this.kind === "screen") this.screen(socket, drawn, resolve);
    else this.serial(socket, drawn, resolve);
    return promise;
  }

  screen(socket, { default: Rfb }, opened) {
    this.stage.replaceChildren();
    this.rfb = new Rfb(this.stage, socket, { shared: true });
    this.rfb.scaleViewport = scales;
    this.rfb.background = "transparent";
    this.rfb.showDotCursor = true;
    this.rfb.addEventListener("connect", () => {
      this.says("open", "");
      if (current === this) this.rfb.focus();
      opened();
    });
  }

  serial(socket, { Terminal, FitAddon }, opened) {
    if (!this.terminal) {
      const look = getComputedStyle(body);
      this.terminal = new Terminal({
        fontFamily: look.getPropertyValue("--mono"),
        fontSize: 14,
        scrollback: 10_000,
        screenReaderMode: true,
        theme: { background: "#111217", foreground: "#e8e9ee" },
      });
      this.fit = new FitAddon();
      this.terminal.loadAddon(this.fit);
      withoutStyleElements(() => this.terminal.open(this.stage));
      this.terminal.onData((text) => this.types(new TextEncoder().encode(text)));
      this.terminal.onBinary((text) => this.types(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
      new ResizeObserver(() => this.fits()).observe(this.stage);
    }
    socket.addEventListener("message", ({ data }) => this.terminal.write(new Uint8Array(data)));
    const open = () => {
      this.says("open", "");
      this.fits();
      if (current === this) this.terminal.focus();
      opened();
    };
    // A ticket that is not taken ends the socket soon after it has opened.
    const isStillOpen = () => socket.readyState === WebSocket.OPEN && this.socket === socket;
    socket.addEventListener("open", () => setTimeout(() => isStillOpen() && open(), 150));
  }

  fits() {
    if (!this.panel.hidden) this.fit?.fit();
  }

  types(bytes) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(bytes);
  }

  closed(code, reason) {
    this.socket = null;
    this.rfb = null;
    if (code === 4000) {
      const at = reason.indexOf(" ");
      this.says("closed", reason.slice(at + 1), reason.slice(0, at));
    } else {
      this.says("closed", "The connection was cut.", "cut");
    }
  }

  // Something happened to a machine, or the host is heard again.
  looksAgain(codes) {
    if (this.state === "closed" && codes.includes(this.panel.dataset.code)) this.connect({ quiet: true });
  }

  end() {
    const { rfb, socket } = this;
    this.socket = null;
    this.rfb = null;
    if (rfb) rfb.disconnect();
    else socket?.close();
  }

  shows() {
    if (this.state === "idle") this.connect();
    else this.looksAgain(["vm-not-running"]);
    this.fits();
    if (this.state === "open") (this.rfb ?? this.terminal)?.focus();
  }
}

// ---- tabs ---------------------------------------------------------------------------------------------------------

let scales = true;
let current = null;
const consoles = all("[data-console]").map((panel) => new Console(panel));

function choose(chosen) {
  current = chosen;
  for (const each of consoles) {
    const is = each === chosen;
    each.panel.hidden = !is;
    each.tab.setAttribute("aria-selected", is);
    each.tab.tabIndex = is ? 0 : -1;
  }
  document.title = `${chosen.panel.dataset.name} · Quantix`;
  chosen.shows();
  tools();
}

consoles.forEach((each, at) => {
  each.tab.addEventListener("click", () => choose(each));
  each.tab.addEventListener("keydown", ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (!step) return;
    const next = consoles[(at + step + consoles.length) % consoles.length];
    choose(next);
    next.tab.focus();
  });
});

// ---- tools --------------------------------------------------------------------------------------------------------

const KEYS = {
  Control: [0xffe3, "ControlLeft"],
  Alt: [0xffe9, "AltLeft"],
  Delete: [0xffff, "Delete"],
  Tab: [0xff09, "Tab"],
  Escape: [0xff1b, "Escape"],
  Super: [0xffeb, "MetaLeft"],
  PrintScreen: [0xff61, "PrintScreen"],
  F1: [0xffbe, "F1"],
  F2: [0xffbf, "F2"],
  F3: [0xffc0, "F3"],
  F7: [0xffc4, "F7"],
  F12: [0xffc9, "F12"],
};

function press(names) {
  const keys = names.split(" ").map((name) => KEYS[name]);
  for (const [symbol, code] of keys) current.rfb?.sendKey(symbol, code, true);
  for (const [symbol, code] of keys.reverse()) current.rfb?.sendKey(symbol, code, false);
  current.rfb?.focus();
}

// As the keys of a keyboard say it, letter after letter.
async function type(text) {
  if (current.kind === "serial") return current.types(new TextEncoder().encode(text.replaceAll("\n", "\r")));
  const { rfb } = current;
  for (const letter of text) {
    const point = letter.codePointAt(0);
    const symbol = letter === "\n" ? 0xff0d : letter === "\t" ? 0xff09 : point < 0x100 ? point : 0x01000000 + point;
    if (rfb !== current.rfb) return;
    rfb.sendKey(symbol, null);
    await wait(8);
  }
}

function save(blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${current.panel.dataset.name} ${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function tools() {
  if (!current) return;
  for (const tool of all("[data-for]")) tool.hidden = tool.dataset.for !== current.kind;
  for (const tool of all("[data-open]")) tool.disabled = current.state !== "open";
  const machine = find("#machine");
  if (machine) machine.href = `/vms/${current.panel.dataset.vm}`;
}

// What was asked of the machine that is seen, or why it is not done.
let tellings = 0;
async function tell(sentence) {
  const place = find("#told");
  const telling = (tellings += 1);
  place.textContent = sentence;
  place.hidden = false;
  await wait(8000);
  if (telling === tellings) place.hidden = true;
}

// Asked before what its guest would lose is lost.
function sure(title, machine, sentence) {
  const dialog = find("#sure");
  dialog.querySelector("h2").textContent = `${title} ${machine}?`;
  dialog.querySelector("p").textContent = `It ${sentence}`;
  dialog.querySelector("[value=yes]").textContent = `Yes, ${title.toLowerCase()}`;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function power({ dataset, textContent: title }) {
  const { machine, address } = current.panel.dataset;
  if (dataset.sure && !(await sure(title, machine, dataset.sure))) return;
  try {
    await ask(`${address}/power/${dataset.power}`, {});
    tell(`${title}: ${machine} was told.`);
  } catch (error) {
    tell(error.message);
  }
}

const tool = (name, does) => find(`[data-tool=${name}]`)?.addEventListener("click", does);

for (const button of all("[data-keys]")) {
  button.addEventListener("click", () => {
    button.closest("[popover]")?.hidePopover();
    press(button.dataset.keys);
  });
}
for (const button of all("[data-power]")) {
  button.addEventListener("click", () => {
    button.closest("[popover]")?.hidePopover();
    power(button);
  });
}
tool("scale", ({ currentTarget }) => {
  scales = !scales;
  currentTarget.setAttribute("aria-pressed", scales);
  for (const each of consoles) if (each.rfb) [each.rfb.scaleViewport, each.rfb.clipViewport] = [scales, !scales];
});
tool("screenshot", () => current.rfb?.toBlob(save, "image/png"));
tool("full", () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()));
tool("again", () => current.connect());
tool("type", () => find("#type").showModal());
find("#type form").addEventListener("submit", ({ target, submitter }) => {
  const text = target.elements.text.value;
  target.reset();
  if (submitter?.value === "type") type(text);
});
addEventListener("pagehide", () => consoles.forEach((each) => each.end()));

// The one that is seen comes back when there may be something to see again.
const changes = new EventSource(body.dataset.live);
changes.addEventListener("vm", () => current.looksAgain(["vm-not-running"]));
changes.addEventListener("resync", () => current.looksAgain(["vm-not-running"]));
changes.addEventListener("open", () => current.looksAgain(["cut", "host-unreachable", "unavailable"]));

choose(consoles[0]);
