// What a person calls things. Loaded before each question; the last line of the question returns.
const tidy = (text) => (text || "").replace(/\s+/g, " ").trim();
const isSeen = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
const nameOf = (element) => {
  const by = element.getAttribute("aria-labelledby");
  if (by) return tidy(by.split(/\s+/).map((id) => document.getElementById(id)?.textContent).join(" "));
  if (element.getAttribute("aria-label")) return tidy(element.getAttribute("aria-label"));
  if (element.labels?.length) return tidy(element.labels[0].textContent);
  if (element.matches("input[type=submit], input[type=button]")) return tidy(element.value);
  return tidy(element.innerText) || tidy(element.getAttribute("title"));
};
const ROLES = {
  button: "button, input[type=submit], input[type=button], summary, [role=button]",
  link: "a[href], [role=link]",
  field: "input:not([type=hidden], [type=submit], [type=button]), select, textarea, [role=combobox]",
  item: "[role=menuitem], [role=option]",
  heading: "h1, h2, h3, [role=heading]",
  dialog: "dialog, [role=dialog]",
};
const roleOf = (element) =>
  Object.keys(ROLES).find((role) => element.matches(ROLES[role])) ??
  element.getAttribute("role") ?? element.localName;
const find = (role, name) =>
  [...document.querySelectorAll(ROLES[role])].find((one) => isSeen(one) && nameOf(one) === name) ?? null;
// Where the keyboard is, and whether that can be seen.
const focused = () => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  const isMarked =
    (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
  const isOnScreen =
    box.width > 1 && box.height > 1 && box.bottom > 0 && box.right > 0 &&
    box.top < innerHeight && box.left < innerWidth;
  return { role: roleOf(element), name: nameOf(element), visible: isMarked && isOnScreen };
};
