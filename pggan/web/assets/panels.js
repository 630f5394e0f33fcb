// The tabs of tools: one panel shows at a time; on a narrow page the grid and the tray are tabs, too.
import { byId, make } from "./dom.js";

export class Panels {
  constructor() {
    this.panels = new Map();
    this.bar = byId("tabs");
    this.bar.addEventListener("keydown", (event) => this.key(event));
  }

  // `part` has `element` and, where it matters, `shown()`. Without an element the tab exists on narrow pages alone.
  add(name, title, part = {}) {
    const tab = make("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-selected": "false", tabindex: -1, onclick: () => this.show(name) }, title);
    if (part.element) {
      part.element.classList.add("panel");
      part.element.id = `panel-${name}`;
      part.element.setAttribute("role", "tabpanel");
      part.element.setAttribute("aria-labelledby", tab.id);
      part.element.hidden = true;
      tab.setAttribute("aria-controls", part.element.id);
      byId("panels").append(part.element);
    } else {
      tab.dataset.narrow = "";
      tab.setAttribute("aria-controls", name);
    }
    this.bar.append(tab);
    this.panels.set(name, { tab, part });
  }

  show(name) {
    const entry = this.panels.get(name);
    if (!entry) return;
    document.body.dataset.panel = name;
    this.name = name;
    for (const [other, { tab, part }] of this.panels) {
      tab.setAttribute("aria-selected", String(other === name));
      tab.tabIndex = other === name ? 0 : -1;
      if (part.element && entry.part.element) part.element.hidden = other !== name;
    }
    entry.tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    entry.part.shown?.();
  }

  // The n-th tab that can be seen.
  showNumber(number) {
    const visible = [...this.panels].filter(([, { tab }]) => tab.offsetParent !== null);
    if (visible[number]) this.show(visible[number][0]);
  }

  key(event) {
    const visible = [...this.panels].filter(([, { tab }]) => tab.offsetParent !== null).map(([name]) => name);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = visible[(visible.indexOf(this.name) + step + visible.length) % visible.length];
    this.show(next);
    this.panels.get(next).tab.focus();
    event.preventDefault();
  }
}
