// Passwords that are typed can be looked at, and how hard a new one is to guess is shown.

// What only script can do is offered where there is some, also in what comes later.
const offer = (button) => button && (button.hidden = false);
document.querySelectorAll("[data-show]").forEach(offer);
document.addEventListener("focusin", (event) => offer(event.target.closest?.(".with-end")?.querySelector("[data-show]")));

function show(button, is) {
  button.previousElementSibling.type = is ? "text" : "password";
  button.setAttribute("aria-pressed", is);
}
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-show]");
  if (button) show(button, button.getAttribute("aria-pressed") !== "true");
});
// Browsers remember what stands in plain fields.
document.addEventListener("submit", (event) => {
  event.target.querySelectorAll("[data-show]").forEach((button) => show(button, false));
}, true);

// How hard it is to guess, up to four. What everybody takes, repeats and letters in a row count for little.
function strength(typed) {
  const text = typed.replace(/pass(word|wort|phrase)|admin|root|welcome|letmein|qwert[yz]|quantix/gi, "a");
  const kinds = [[/[a-z]/, 26], [/[A-Z]/, 26], [/\d/, 10], [/[^a-zA-Z\d]/, 33]];
  const letters = kinds.reduce((sum, [kind, count]) => sum + (kind.test(text) ? count : 0), 1);
  const codes = [...text].map((letter) => letter.codePointAt(0));
  const length = codes.reduce((sum, code, at) => sum + (Math.abs(code - codes[at - 1]) < 2 ? 0.2 : 1), 0);
  const bits = Math.min(length, 1.3 * new Set(codes).size) * Math.log2(letters);
  return typed && Math.max(1, Math.min(4, Math.floor(bits / 20)));
}
document.addEventListener("input", (event) => {
  const bars = event.target.closest?.(".with-end")?.nextElementSibling;
  if (!bars?.matches(".strength")) return;
  const level = strength(event.target.value);
  const words = ["Nothing is typed yet", "Easy to guess", "Could be guessed", "Hard to guess", "Very hard to guess"];
  [bars.hidden, bars.title, bars.dataset.level] = [!level, words[level || 0], level];
  bars.setAttribute("aria-label", bars.title);
  [...bars.children].forEach((bar, at) => bar.classList.toggle("on", at < level));
});
