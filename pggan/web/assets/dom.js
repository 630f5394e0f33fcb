// Makes elements, sliders, short messages, dialogs and menus.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const button = (text, onclick, attributes = {}) => make("button", { type: "button", onclick, ...attributes }, text);

export const byId = (id) => document.getElementById(id);

// Paints the track of a range input between `origin` and its value.
export function paint(input, origin = Number(input.min)) {
  const share = (value) => `${(100 * (value - input.min)) / (input.max - input.min || 1)}%`;
  input.style.setProperty("--at", share(Number(input.value)));
  input.style.setProperty("--from", share(origin));
}

// A labelled slider: `moving(value)` while it moves, `settled(value)` when it is let go.
export function slider({ label, min, max, step = 1, value, origin = min, show = String, moving = () => {}, settled }) {
  const output = make("output", {}, show(value));
  const input = make("input", { type: "range", min, max, step, "aria-label": label });
  input.value = value;
  const refresh = () => {
    output.textContent = show(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
    paint(input, origin);
  };
  input.addEventListener("input", () => (refresh(), moving(Number(input.value))));
  input.addEventListener("change", () => settled(Number(input.value)));
  input.addEventListener("dblclick", () => ((input.value = origin), refresh(), settled(origin)));
  refresh();
  const set = (next) => {
    if (document.activeElement === input && input.matches(":active")) return;
    input.value = next;
    refresh();
  };
  return { element: make("div", { class: "slider" }, make("span", {}, label), output, input), input, set };
}

export function toast(text, bad = false) {
  const element = make("p", { class: bad ? "toast bad" : "toast" }, text);
  for (const other of byId("toasts").children) if (other.textContent === text) other.remove();
  byId("toasts").append(element);
  setTimeout(() => element.remove(), bad ? 7000 : 2600);
}

export function dialog(title, ...children) {
  const element = make("dialog", { "aria-label": title });
  const close = make("button", { type: "button", class: "icon close", "aria-label": "Close", onclick: () => element.close() }, "✕");
  element.append(close, make("h2", {}, title), ...children);
  element.addEventListener("close", () => element.remove());
  element.addEventListener("click", (event) => event.target === element && element.close());
  document.body.append(element);
  element.showModal();
  return element;
}

// Calls `open(target, x, y)` when a finger rests on an element. Lifting it is no click then, on what has opened beneath.
export function longPress(element, open) {
  let timer, pressed;
  element.addEventListener("touchstart", ({ target, touches: [finger] }) => {
    pressed = false;
    timer = setTimeout(() => ((pressed = true), open(target, finger.clientX, finger.clientY)), 550);
  }, { passive: true });
  for (const name of ["touchmove", "touchcancel"]) element.addEventListener(name, () => clearTimeout(timer), { passive: true });
  element.addEventListener("touchend", (event) => (clearTimeout(timer), pressed && event.preventDefault()), { passive: false });
}

// A menu at a place: [[text, key, action], ...]. Arrow keys move in it, Escape closes it.
export function menu(x, y, entries) {
  document.querySelector(".menu")?.remove();
  const before = document.activeElement;
  let open = true;
  const close = () => {
    if (!open) return;
    open = false; // removing it moves the focus, which closes it
    element.remove();
    before?.focus?.();
  };
  const items = entries.map(([text, key, action]) =>
    make("button", { type: "button", role: "menuitem", onclick: () => (close(), action()) }, make("span", {}, text), key ? make("kbd", {}, key) : null));
  const element = make("div", { class: "menu", role: "menu" }, ...items);
  document.body.append(element);
  element.style.left = `${Math.max(6, Math.min(x, innerWidth - element.offsetWidth - 6))}px`;
  element.style.top = `${Math.max(6, Math.min(y, innerHeight - element.offsetHeight - 6))}px`;
  items[0].focus();
  element.addEventListener("keydown", (event) => {
    const at = items.indexOf(document.activeElement);
    if (event.key === "Escape") close();
    if (event.key === "ArrowDown") items[(at + 1) % items.length].focus();
    if (event.key === "ArrowUp") items[(at + items.length - 1) % items.length].focus();
    event.stopPropagation();
  });
  element.addEventListener("focusout", (event) => element.contains(event.relatedTarget) || close());
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
  } catch {
    dialog(what, make("pre", { tabindex: 0 }, text));
  }
}

export async function guarded(action) {
  try {
    return await action();
  } catch (error) {
    toast(error.message, true);
    return undefined;
  }
}
