// The form that makes a machine, a step at a time. Without it all steps are there, one below the other. Nothing is sent
// and loaded again between two steps, so that nothing is lost, a password neither; the agent looks at what there is.

import { judge, say } from "./quantix.js";

const form = document.querySelector("[data-wizard]");
const find = (selector, within = form) => within.querySelector(selector);
const all = (selector, within = form) => [...within.querySelectorAll(selector)];
const steps = all("[data-step]");
const items = all(".steps li");
const [back, next, make] = ["[data-back]", "[data-next]", "[type=submit]"].map((selector) => find(selector));
const last = steps.length - 1;

let at = 0;
let farthest = 0;
let isBusy = false;
let isTyped = false;
let isSent = false;

const fieldsOf = (step) => [...form.elements].filter((field) => field.name && step.contains(field));

// What needs something that was not chosen is gone past, unless somebody filled it in.
function isNeeded(step) {
  const needed = step.dataset.needs;
  const isFilled = (field) => field.type !== "checkbox" && field.value !== "";
  return !needed || form.elements.namedItem(needed).value !== "" || fieldsOf(step).some(isFilled);
}

function towards(way) {
  let to = at + way;
  while (to > 0 && to < last && !isNeeded(steps[to])) to += way;
  return to;
}

// The last step has it in its midst.
function showSoFar() {
  find("[data-aside]").hidden = at === last || find("[data-summary]").childElementCount === 0;
}

function show(to, focused = find("h2", steps[to])) {
  at = to;
  farthest = Math.max(farthest, at);
  steps.forEach((step, index) => (step.hidden = index !== at));
  items.forEach((item, index) => {
    const isNow = index === at;
    item.classList.toggle("done", !isNow && index <= farthest && isNeeded(steps[index]));
    if (isNow) item.firstElementChild.setAttribute("aria-current", "step");
    else item.firstElementChild.removeAttribute("aria-current");
  });
  back.hidden = at === 0;
  next.hidden = at === last;
  make.hidden = at !== last;
  showSoFar();
  if (!focused) return;
  for (let around = focused.closest("details"); around; around = around.parentElement.closest("details")) around.open = true;
  scrollTo(0, 0);
  focused.focus();
}

// The browser's own way back leads a step back.
function go(to) {
  if (to === at) return;
  history.pushState({ step: to }, "");
  show(to);
}

function blame(sentence) {
  const line = document.createElement("p");
  line.className = "notice bad";
  line.setAttribute("role", "alert");
  line.textContent = sentence;
  find("[data-fault]").replaceChildren(...(sentence ? [line] : []));
}

// What is wrong with a field stands beside it, wherever that is.
function point(field, sentence = "") {
  const step = steps.findIndex((one) => one.contains(field));
  if (sentence) field.setCustomValidity(sentence);
  judge(field);
  if (step !== at) history.pushState({ step }, "");
  show(step, field);
}

async function look() {
  const body = new URLSearchParams(new FormData(form));
  const answer = await fetch(form.dataset.wizard, { method: "POST", body, redirect: "error" });
  if (!answer.ok) throw new Error(answer.statusText);
  const looked = await answer.json();
  if (looked.summary) all("[data-summary]").forEach((place) => (place.innerHTML = looked.summary));
  showSoFar();
  return looked;
}

// Whether everything is right that comes before a step.
async function isRightBefore(to) {
  blame("");
  const asked = steps.slice(0, to).flatMap(fieldsOf);
  asked.forEach((field) => field.setCustomValidity(""));
  const wrong = asked.find((field) => !field.validity.valid);
  asked.filter((field) => steps[at].contains(field) || field === wrong).forEach(judge);
  if (wrong) return point(wrong);
  const { sentence, field: name } = await look();
  const field = name && form.elements.namedItem(name);
  const step = field ? steps.findIndex((one) => one.contains(field)) : last;
  if (!sentence || step >= to) return true;
  if (field) point(field, sentence);
  else blame(sentence);
  return false;
}

// Goes on if that is right; what the browser is told meanwhile waits for the answer.
async function onwards(to, then) {
  if (isBusy) return;
  isBusy = true;
  [next, make].forEach((button) => button.setAttribute("aria-busy", "true"));
  try {
    if (await isRightBefore(to)) then();
  } catch {
    say("The host did not look at this. You may have been signed out: sign in in another tab, and go on here.", "bad");
  }
  isBusy = false;
  if (!isSent) [next, make].forEach((button) => button.removeAttribute("aria-busy"));
}

function lead(to) {
  if (to <= at) go(to);
  else onwards(to, () => go(to));
}

back.addEventListener("click", () => go(towards(-1)));
next.addEventListener("click", () => lead(towards(1)));
items.forEach((item, index) => {
  item.firstElementChild.addEventListener("click", (event) => {
    event.preventDefault();
    lead(index);
  });
});
addEventListener("popstate", ({ state }) => show(state?.step ?? 0));

// Enter in a field leads to the next step, and makes the machine only in the last.
form.addEventListener("submit", (event) => {
  if (isSent) return;
  event.preventDefault();
  if (at < last) return lead(towards(1));
  onwards(steps.length, () => {
    isSent = true;
    form.requestSubmit(make);
  });
});

form.addEventListener("input", ({ target }) => {
  isTyped = true;
  if (target.validity?.customError) {
    target.setCustomValidity("");
    judge(target);
  }
  mark();
});

// What there is so far is told anew when something has been filled in; what is wrong, only to whoever goes on.
let soon = 0;
form.addEventListener("change", () => {
  offer();
  clearTimeout(soon);
  soon = setTimeout(() => look().catch(() => {}), 300);
});

// What is asked only of what was chosen.
const offer = () => all("div[data-needs]").forEach((part) => (part.hidden = form.elements.namedItem(part.dataset.needs).value === ""));
offer();

// ---- hardware that suits the guest --------------------------------------------------------------------------------

const guest = form.elements.namedItem("spec.guest");

function tell(field) {
  for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
}

// What is more than enough stays.
function suit() {
  const suits = all("[data-suit]").find(({ value }) => value === guest.value);
  for (const [name, value] of new URLSearchParams(suits.dataset.suit)) {
    const field = form.elements.namedItem(name);
    if (field.type === "checkbox") field.checked = value !== "";
    else if (field.type !== "number" || Number(field.value) < Number(value)) field.value = value;
  }
  const drivers = form.elements.namedItem("spec.cds.1");
  const known = [...drivers.options].find(({ text }) => /virtio-win/i.test(text));
  if (guest.value !== "windows") drivers.value = "";
  else if (known && !drivers.value) drivers.value = known.value;
  showDrivers();
}

const showDrivers = () => all("[data-guest]").forEach((part) => (part.hidden = part.dataset.guest !== guest.value));

// An image or a CD of which it is known says what runs in the machine.
function recognise({ target }) {
  const known = all("[data-runs]").find(({ value }) => value === target.value);
  if (!known || known.dataset.runs === guest.value) return;
  guest.value = known.dataset.runs;
  tell(guest);
}

guest.addEventListener("change", suit);
for (const name of ["disks.0.image", "spec.cds"]) form.elements.namedItem(name).addEventListener("change", recognise);
showDrivers();

// ---- usual sizes --------------------------------------------------------------------------------------------------

const filled = (button) => [...new URLSearchParams(button.dataset.fill)].map(([name, value]) => [form.elements.namedItem(name), value]);
const sizes = all("[data-fill]");
const mark = () => sizes.forEach((size) => size.setAttribute("aria-pressed", String(filled(size).every(([field, value]) => field.value === value))));
sizes.forEach((size) =>
  size.addEventListener("click", () => {
    filled(size).forEach(([field, value]) => {
      field.value = value;
      tell(field);
    });
  }),
);
find("[data-sizes]").hidden = false;
mark();

// ---- leaving ------------------------------------------------------------------------------------------------------

// Whoever leaves loses what they filled in.
addEventListener("beforeunload", (event) => isTyped && !isSent && event.preventDefault());
addEventListener("pageshow", () => (isSent = false));

// What cannot be seen cannot be filled in: the steps are looked at here, and not by the browser all at once.
form.noValidate = true;
const refused = find("[aria-invalid]");
history.replaceState({ step: 0 }, "");
if (refused) show(steps.findIndex((step) => step.contains(refused)), refused);
else show(0, null);
