// Brings a file in pieces. What the host has is asked for before anything is sent again, so a line that breaks for a
// while, or for five minutes, costs one piece.

const PIECE = 4 * 1024 * 1024;
const PATIENCE_MS = 5 * 60 * 1000;
const form = document.querySelector("[data-upload]");
const find = (selector) => form.querySelector(selector);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const unit = (bytes) => (bytes < 1 << 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / (1 << 20)).toFixed(0)} MiB`);

let stop = null;

function show({ text = "", share = null, fault = "" }) {
  find("[data-progress]").textContent = text;
  const bar = find("progress");
  bar.hidden = share === null;
  if (share !== null) bar.value = share;
  const line = find(".fault");
  line.hidden = fault === "";
  line.textContent = fault;
}

class Refused extends Error {}

// Asks, and asks again for as long as it may be the line.
async function ask(method, address, body) {
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

async function bring(file) {
  const said = new URLSearchParams({
    name: find("[name=image_name]").value.trim() || file.name,
    file: file.name,
    pool: find("[name=pool]").value,
    length: file.size,
    sha256: find("[name=sha256]").value,
  });
  const { id } = await ask("POST", "/storage/images", said);
  const address = `/storage/images/${id}`;
  const begun = performance.now();
  let at = 0;
  while (at < file.size) {
    const piece = await file.slice(at, at + PIECE).arrayBuffer();
    at = (await ask("PUT", `${address}/content?at=${at}`, piece)).bytes;
    const rate = at / Math.max(1, performance.now() - begun);
    const left = Math.ceil((file.size - at) / rate / 1000);
    show({ text: `${unit(at)} of ${unit(file.size)}, ${unit(rate * 1000)}/s, ${left} s left`, share: at / file.size });
  }
  await ask("POST", `${address}/finish`);
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const file = find("[type=file]").files[0];
  if (!file) return;
  stop = new AbortController();
  const [button, ending] = [find("[type=submit]"), find("[data-stop]")];
  [button.disabled, ending.hidden] = [true, false];
  try {
    await bring(file);
    form.reset();
    show({ text: "It has come, and is looked at." });
  } catch (error) {
    show({ fault: stop.signal.aborted ? "Stopped. What has come can be removed in the list." : error.message });
  }
  [button.disabled, ending.hidden] = [false, true];
  stop = null;
});
form?.querySelector("[data-stop]").addEventListener("click", () => stop?.abort());
// Whoever leaves loses what has not come.
addEventListener("beforeunload", (event) => stop && event.preventDefault());
