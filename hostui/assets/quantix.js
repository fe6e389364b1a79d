// What makes the pages live. Every page works without it: links lead to pages, forms post. It adds dialogs instead of
// pages, the palette, marks on what changed, a line when the host is not heard, and small comforts.

const $ = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const isTyping = (element) => element?.matches?.("input:not([type=checkbox]), select, textarea, [contenteditable]");

// ---- toasts -------------------------------------------------------------------------------------------------------

const TOAST_MS = 6000;

function dismissLater(toast) {
  setTimeout(() => (toast.matches(":hover") ? dismissLater(toast) : toast.remove()), TOAST_MS);
}

export function say(sentence, level = "") {
  const toast = document.createElement("p");
  toast.className = `toast ${level}`;
  toast.textContent = sentence;
  $("#toasts")?.append(toast);
  dismissLater(toast);
}

all(".toast").forEach(dismissLater);
// An answer to a block may bring a sentence along, in its header HX-Trigger.
document.addEventListener("toast", (event) => say(event.detail.value));
document.addEventListener("htmx:responseError", () => say("This did not work. Load the page again to see how things are.", "bad"));
document.addEventListener("htmx:sendError", () => offline(true));
document.addEventListener("htmx:afterRequest", (event) => event.detail.successful && !streams() && offline(false));

// ---- the stream of events -----------------------------------------------------------------------------------------

const streams = () => $("[sse-connect]") !== null;
const offline = (is) => {
  const line = $("#lost");
  if (line) line.textContent = is ? "The host is not heard. Reconnecting…" : "";
};
let wasLost = false;
document.addEventListener("htmx:sseError", () => {
  wasLost = true;
  offline(true);
});
document.addEventListener("htmx:sseOpen", () => {
  offline(false);
  // What changed in the meantime was not told.
  if (wasLost) all("[hx-trigger*='sse:']").forEach((block) => htmx.trigger(block, "again"));
  wasLost = false;
});

// ---- blocks that are drawn anew -----------------------------------------------------------------------------------

const before = new WeakMap();

// What is told while a block is on its way, or before what came listens itself, may not be in it: it is asked for again.
const told = new Map();
const begunAt = new Map();
const isLive = (block) => block.id && block.matches?.("[hx-trigger*='sse:']");
const kinds = (block) => [...block.getAttribute("hx-trigger").matchAll(/sse:([a-z-]+)/g)].map(([, kind]) => kind);
const count = (block) => kinds(block).reduce((sum, kind) => sum + (told.get(kind) ?? 0), 0);
if (window.htmx) htmx.createEventSource = (address) => {
  const source = new EventSource(address, { withCredentials: true });
  for (const kind of new Set(all("[hx-trigger*='sse:']").flatMap(kinds))) {
    source.addEventListener(kind, () => told.set(kind, (told.get(kind) ?? 0) + 1));
  }
  return source;
};
document.addEventListener("htmx:beforeRequest", ({ target }) => isLive(target) && begunAt.set(target.id, count(target)));
document.addEventListener("htmx:afterSettle", ({ target }) => {
  if (isLive(target) && begunAt.has(target.id) && count(target) > begunAt.get(target.id)) htmx.trigger(target, "again");
});

// A menu that is open, or a field that somebody is filling in, is not pulled away; the block comes when they are done.
function isInUse(block) {
  const focused = block.contains(document.activeElement) && isTyping(document.activeElement);
  return focused || $(":popover-open, dialog[open]", block) !== null;
}

// What is drawn anew by the clock is so only while somebody looks: an open page alone does not keep a session open.
const LOOKED_WITHIN = 15 * 60 * 1000;
let lookedAt = Date.now();
for (const sign of ["pointermove", "pointerdown", "keydown", "wheel", "visibilitychange"]) {
  document.addEventListener(sign, () => (lookedAt = Date.now()), { passive: true });
}
document.addEventListener("htmx:beforeRequest", (event) => {
  const nobodyLooks = document.hidden || Date.now() - lookedAt > LOOKED_WITHIN;
  if (event.target.matches("[data-timed]") && nobodyLooks) event.preventDefault();
});
document.addEventListener("htmx:beforeSwap", (event) => {
  const block = event.detail.target;
  // Figures that somebody reads stay until they are folded away.
  if (block?.matches("[data-timed]") && $("details[open]", block)) event.detail.shouldSwap = false;
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const block = event.detail.target;
  if (!block?.id || !block.matches("[hx-trigger*='sse:']")) return;
  if (isInUse(block)) {
    event.detail.shouldSwap = false;
    setTimeout(() => htmx.trigger(`#${block.id}`, "again"), 1000);
    return;
  }
  const rows = new Map(all("[id]", block).map((row) => [row.id, row.textContent]));
  const scrolled = all(".scroll", block).map((box) => box.scrollLeft);
  const ticked = all("input[type=checkbox][id]:checked", block).map((tick) => tick.id);
  before.set(event.detail.xhr, { id: block.id, rows, scrolled, ticked });
});

document.addEventListener("htmx:afterSwap", (event) => {
  const was = before.get(event.detail.xhr);
  const block = was && document.getElementById(was.id);
  if (!block) return;
  all(".scroll", block).forEach((box, index) => (box.scrollLeft = was.scrolled[index] ?? 0));
  all("input[type=checkbox][id]", block).forEach((tick) => (tick.checked = was.ticked.includes(tick.id)));
  for (const row of all("tr[id], li[id], [data-row][id]", block)) {
    row.classList.toggle("changed", was.rows.get(row.id) !== row.textContent);
  }
});

// ---- dialogs ------------------------------------------------------------------------------------------------------

async function openIn(dialog, href, block) {
  const address = new URL(href, location);
  address.searchParams.set("block", block);
  // Whatever is wrong is said by the page itself.
  const fail = () => (location.href = href);
  try {
    const answer = await fetch(address, { headers: { "HX-Request": "true" }, redirect: "error" });
    if (!answer.ok || answer.headers.has("HX-Redirect")) return fail();
    dialog.innerHTML = await answer.text();
    htmx.process(dialog);
    dialog.showModal();
  } catch {
    fail();
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-dialog], a[data-close]");
  const plain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
  if (!link || !plain) return;
  if (link.matches("[data-close]")) {
    const dialog = link.closest("dialog");
    if (!dialog) return;
    event.preventDefault();
    dialog.close();
    return;
  }
  event.preventDefault();
  openIn($("#dialog"), link.href, "dialog");
});

// A click beside a dialog closes it.
document.addEventListener("mousedown", (event) => {
  if (event.target.matches?.("dialog") && event.target.open) {
    const box = event.target.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) event.target.close();
  }
});

// ---- forms --------------------------------------------------------------------------------------------------------

// A form is sent once, and its button says so. A download leaves the page as it is.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method === "dialog" || form.matches("[data-download], [role=search]")) return;
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "yes";
  event.submitter?.setAttribute("aria-busy", "true");
});
addEventListener("pageshow", () => {
  all("form[data-sent]").forEach((form) => delete form.dataset.sent);
  all("button[aria-busy]").forEach((button) => button.removeAttribute("aria-busy"));
});

function wrong(field) {
  const { validity: is, minLength, min, max } = field;
  if (is.valueMissing) return "This must be filled in.";
  if (is.tooShort) return `At least ${minLength} characters.`;
  if (is.rangeUnderflow || is.rangeOverflow || is.badInput || is.stepMismatch) return `A whole number from ${min} to ${max}.`;
  return is.valid ? "" : field.validationMessage;
}

// What the browser can tell is said beside the field when it is left, and taken back when it is right. Not while
// somebody is pressing a button: it would move away from under the pointer.
let isPressing = false;
addEventListener("pointerdown", () => (isPressing = true), true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => (isPressing = false), true);
document.addEventListener("change", (event) => {
  const judged = () => judge(event.target);
  if (isPressing) addEventListener("pointerup", () => setTimeout(judged), { once: true });
  else judged();
});

export function judge(field) {
  const place = field.closest?.(".field");
  if (!place || !field.willValidate || !field.name) return;
  const sentence = wrong(field);
  let error = $(".error", place);
  if (!sentence) {
    error?.remove();
    field.removeAttribute("aria-invalid");
    return;
  }
  if (!error) {
    error = document.createElement("span");
    error.className = "error";
    error.id = `${field.id}-error`;
    error.role = "alert";
    place.append(error);
  }
  error.textContent = sentence;
  field.setAttribute("aria-invalid", "true");
  const described = (field.getAttribute("aria-describedby") ?? "").split(" ").filter((id) => id && id !== error.id);
  field.setAttribute("aria-describedby", [...described, error.id].join(" "));
}

// ---- copying what is shown once -----------------------------------------------------------------------------------

function offerCopying(within) {
  if (navigator.clipboard) all("[data-copy]", within).forEach((button) => (button.hidden = false));
}
offerCopying(document);
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
    say("Copied.");
  } catch {
    say("The browser does not let this be copied. Select it instead.", "bad");
  }
});

// ---- text that is read from files into a field ---------------------------------------------------------------------

const LONGEST_READ = 64 * 1024;

all("[data-read]").forEach((button) => (button.hidden = false));
document.addEventListener("click", (event) => event.target.closest?.("[data-read]")?.nextElementSibling.click());
document.addEventListener("change", async ({ target: chooser }) => {
  if (!chooser.matches?.("[data-read] + input")) return;
  const field = document.getElementById(chooser.previousElementSibling.dataset.read);
  for (const file of chooser.files) {
    const text = file.size > LONGEST_READ ? "" : (await file.text()).trim();
    if (text.includes("PRIVATE KEY")) {
      say(`${file.name} is a private key, which stays where it is. Choose the one that ends in .pub.`, "bad");
    } else if (text === "") {
      say(`${file.name} has no key in it.`, "bad");
    } else {
      field.value = [field.value.trim(), text].filter(Boolean).join("\n");
    }
  }
  chooser.value = "";
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.focus();
});

all("[data-keys]").forEach((block) => {
  const [address, button] = block.children;
  const field = document.getElementById(block.dataset.keys);
  block.hidden = false;
  const bring = async () => {
    button.disabled = true;
    try {
      const body = new URLSearchParams({ url: address.value });
      const answer = await fetch("/vms/ssh-keys", { method: "POST", body, headers: { accept: "application/json" } });
      if (answer.redirected) throw new Error("Your session has ended. Sign in again.");
      if (!answer.ok) throw new Error(await answer.text());
      const { keys } = await answer.json();
      const there = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
      field.value = [...new Set([...there, ...keys])].join("\n");
      address.value = "";
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.focus();
    } catch (error) {
      say(error.message, "bad");
    }
    button.disabled = false;
  };
  button.addEventListener("click", bring);
  address.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    bring();
  });
});

// ---- menus, where the browser cannot place them by itself -----------------------------------------------------------

if (!CSS.supports("position-area", "bottom")) {
  document.addEventListener("toggle", (event) => {
    const menu = event.target;
    const button = $(`[popovertarget="${menu.id}"]`);
    if (!menu.matches?.(".menu") || event.newState !== "open" || !button) return;
    const at = button.getBoundingClientRect();
    const left = Math.max(8, Math.min(at.left, innerWidth - menu.offsetWidth - 8));
    const below = at.bottom + menu.offsetHeight + 8 < innerHeight;
    menu.style.left = `${left}px`;
    menu.style.top = `${below ? at.bottom : Math.max(8, at.top - menu.offsetHeight - 8)}px`;
  }, true);
}

// ---- find or do ---------------------------------------------------------------------------------------------------

const palette = $("#palette");

function found() {
  return all("#found a, #found button", palette);
}

function select(item) {
  found().forEach((one) => one.setAttribute("aria-selected", String(one === item)));
  const input = $("input[name=text]", palette);
  if (item) {
    item.scrollIntoView({ block: "nearest" });
    input?.setAttribute("aria-activedescendant", item.id);
  } else {
    input?.removeAttribute("aria-activedescendant");
  }
}

const selected = () => $("#found [aria-selected=true]", palette);

// Whoever types a word and presses Enter at once means what is found for that word, and not what was found before.
let isGoing = false;

function go() {
  isGoing = $("#found", palette).dataset.text !== $("input[name=text]", palette).value.trim();
  if (!isGoing) (selected() ?? found()[0])?.click();
}

if (palette) {
  document.addEventListener("keydown", (event) => {
    const slash = event.key === "/" && !isTyping(event.target) && !event.ctrlKey && !event.metaKey && !event.altKey;
    const chord = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey);
    if (!(slash || chord) || $("dialog[open]")) return;
    event.preventDefault();
    openPalette();
  });
  document.addEventListener("click", (event) => {
    const plain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey);
    if (!plain || !event.target.closest?.("a.find")) return;
    event.preventDefault();
    openPalette();
  });
  palette.addEventListener("keydown", (event) => {
    const items = found();
    const at = items.indexOf(selected());
    if (event.key === "ArrowDown") select(items[(at + 1) % items.length]);
    else if (event.key === "ArrowUp") select(items[(at - 1 + items.length) % items.length]);
    else if (event.key === "Enter" && isTyping(event.target)) go();
    else return;
    event.preventDefault();
  });
  palette.addEventListener("input", () => (isGoing = false));
  palette.addEventListener("htmx:afterSwap", () => {
    select(found()[0]);
    if (isGoing) go();
  });
}

async function openPalette() {
  await openIn(palette, "/find", "palette");
  $("input[name=text]", palette)?.focus();
  select(found()[0]);
}

// The menu of a row comes where one asks for it, too. On a link, and in a field, the browser's own does.
document.addEventListener("contextmenu", (event) => {
  const menu = $("[popover]", event.target.closest?.("tr[data-drag]") ?? document.createElement("i"));
  if (!menu || event.target.closest("a, input, button, [popover]")) return;
  event.preventDefault();
  menu.classList.add("at");
  menu.showPopover();
  menu.style.left = `${Math.max(0, Math.min(event.clientX, innerWidth - menu.offsetWidth))}px`;
  menu.style.top = `${Math.max(0, Math.min(event.clientY, innerHeight - menu.offsetHeight))}px`;
});
document.addEventListener("toggle", ({ target, newState }) => {
  if (newState !== "closed" || !target.classList.contains("at")) return;
  target.classList.remove("at");
  target.removeAttribute("style");
}, true);

// A machine is dragged into a folder, and so are all that are ticked with it.
const draggable = () => all("tr[data-drag]").forEach((row) => (row.draggable = true));
const target = (event) => ($("#many") ? event.target.closest?.("li[data-drop]") : null);
const unmark = () => all("li.drop").forEach((place) => place.classList.remove("drop"));
draggable();
document.addEventListener("htmx:afterSwap", draggable);
document.addEventListener("dragstart", (event) => {
  const row = event.target.closest?.("tr[data-drag]");
  if (row) $("input[name=vm]", row).checked = true;
});
document.addEventListener("dragover", (event) => {
  const place = target(event);
  unmark();
  if (!place) return;
  place.classList.add("drop");
  event.preventDefault();
});
document.addEventListener("dragend", unmark);
document.addEventListener("drop", (event) => {
  const place = target(event);
  const form = $("#many");
  const folder = form?.elements.namedItem("folder");
  const move = form && $("button[value=move]", form);
  if (!place || !folder || !move) return;
  event.preventDefault();
  folder.value = place.dataset.drop;
  form.requestSubmit(move);
});
