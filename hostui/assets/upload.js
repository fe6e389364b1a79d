// Brings files in pieces, one file after the other. What the host has is asked for before anything is sent again, so a line
// that breaks for a while, or for five minutes, costs one piece; and so does whoever comes back later with the same file.

const PIECE = 4 * 1024 * 1024;
const PATIENCE_MS = 5 * 60 * 1000;
const form = document.querySelector("[data-upload]");
const find = (selector) => form.querySelector(selector);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const unit = (bytes) => (bytes < 1 << 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / (1 << 20)).toFixed(0)} MiB`);

let stop = null;

// The line of a file in the list of those that come.
function lineOf(file) {
  const line = find("[data-row]").content.cloneNode(true).firstElementChild;
  const [title, bar, words] = [".title", "progress", ".words"].map((part) => line.querySelector(part));
  title.textContent = file.name;
  bar.hidden = true;
  words.textContent = "waits";
  find("[data-files]").append(line);
  return ({ text, share = null, isFault = false }) => {
    words.textContent = text;
    words.classList.toggle("fault", isFault);
    bar.hidden = share === null;
    if (share !== null) bar.value = share;
  };
}

// What is heard by whoever does not look.
const say = (text) => (find("[data-said]").textContent = text);

class Refused extends Error {}

// Asks, and asks again for as long as it may be the line.
async function ask(show, method, address, body) {
  const begun = Date.now();
  for (;;) {
    let why = "The host is not heard.";
    try {
      const answer = await fetch(address, { method, body, signal: stop.signal, headers: { accept: "application/json" } });
      if (answer.ok && !answer.redirected) return await answer.json();
      if (answer.redirected) throw new Refused("Your session has ended. Sign in, and bring the file again.");
      why = await answer.text();
      if (![429, 502, 503, 504].includes(answer.status)) throw new Refused(why);
    } catch (error) {
      if (error instanceof Refused || stop.signal.aborted) throw error;
    }
    if (Date.now() - begun > PATIENCE_MS) throw new Refused(why);
    show({ text: `${why} Trying again…` });
    await wait(2000);
  }
}

async function bring(file, said, show) {
  const about = new URLSearchParams({ ...said, file: file.name, length: file.size });
  const { id } = await ask(show, "POST", "/storage/images", about);
  const address = `/storage/images/${id}`;
  let [at, first, begun] = [0, 0, 0];
  while (at < file.size) {
    const piece = await file.slice(at, at + PIECE).arrayBuffer();
    at = (await ask(show, "PUT", `${address}/content?at=${at}`, piece)).bytes;
    // The first piece shows what had come before; how fast the others come is what counts.
    if (begun === 0) [first, begun] = [at, performance.now()];
    const rate = (at - first) / Math.max(1, performance.now() - begun);
    const speed = rate > 0 ? `, ${unit(rate * 1000)}/s, ${Math.ceil((file.size - at) / rate / 1000)} s left` : "";
    show({ text: `${unit(at)} of ${unit(file.size)}${speed}`, share: at / file.size });
  }
  await ask(show, "POST", `${address}/finish`);
  show({ text: "It has come, and is looked at." });
  say(`${file.name} has come.`);
  return address;
}

// What comes of it is told when it is known, whatever else comes meanwhile.
async function becomes(address, show) {
  for (;;) {
    await wait(1000);
    const answer = await fetch(address, { headers: { accept: "application/json" } }).catch(() => null);
    if (answer?.status === 404) return show({ text: "It was not taken. Why is in Activity.", isFault: true });
    const image = answer?.ok && !answer.redirected ? await answer.json() : null;
    if (image?.state === "ready") return show({ text: `Ready. Its SHA-256 is ${image.sha256}` });
    if (answer?.redirected) return;
  }
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const files = [...find("[type=file]").files];
  if (files.length === 0) return;
  const [name, pool, sha256] = ["image_name", "pool", "sha256"].map((field) => find(`[name=${field}]`).value);
  stop = new AbortController();
  const [button, ending] = [find("[type=submit]"), find("[data-stop]")];
  [button.disabled, ending.hidden] = [true, false];
  find("[data-files]").replaceChildren();
  find("[data-files]").hidden = false;
  const all = files.map((file) => [file, lineOf(file)]);
  let isDone = true;
  for (const [file, show] of all) {
    const own = files.length === 1 ? { name: name.trim() || file.name, sha256 } : { name: file.name, sha256: "" };
    try {
      if (stop.signal.aborted) throw new Refused("stopped");
      becomes(await bring(file, { ...own, pool }, show), show);
    } catch (error) {
      isDone = false;
      const why = stop.signal.aborted ? "Stopped. Choose the file again to go on." : error.message;
      show({ text: why, isFault: true });
      say(`${file.name}: ${why}`);
    }
  }
  if (isDone) form.reset();
  [button.disabled, ending.hidden] = [false, true];
  stop = null;
});
form?.querySelector("[data-stop]").addEventListener("click", () => stop?.abort());
if (form) find("[type=file]").multiple = true;
// Files are dropped anywhere on the form, too; not while others come.
const holdsFiles = (event) => !stop && event.dataTransfer?.types.includes("Files");
form?.addEventListener("dragover", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  form.classList.add("drop");
});
for (const end of ["dragleave", "drop"]) form?.addEventListener(end, () => form.classList.remove("drop"));
form?.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  const field = find("[type=file]");
  field.files = event.dataTransfer.files;
  field.dispatchEvent(new Event("change", { bubbles: true }));
});
// A name and a sum are those of one file.
form?.querySelector("[type=file]").addEventListener("change", ({ target }) => {
  for (const field of ["image_name", "sha256"]) find(`[name=${field}]`).disabled = target.files.length > 1;
});
form?.addEventListener("reset", () => ["image_name", "sha256"].forEach((field) => (find(`[name=${field}]`).disabled = false)));
// Whoever leaves has to come back with the files that have not come.
addEventListener("beforeunload", (event) => stop && event.preventDefault());
