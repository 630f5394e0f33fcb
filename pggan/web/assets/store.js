// The screen as the server has it, what is previewed while a slider moves, undo, and the link in the address.
export class Store {
  constructor(connection) {
    this.connection = connection;
    this.model = null;
    this.first = null; // the screen of a new tab
    this.screen = null;
    this.depth = { undo: 0, redo: 0 };
    this.listeners = [];
    this.events = { colours: [] }; // what the server tells on its own: functions to call
  }

  // `listener(screen, { moving })`; moving: a slider is under way, and the change is no step yet.
  subscribe(listener) {
    this.listeners.push(listener);
    if (this.screen) listener(this.screen, { moving: false });
  }

  notify(moving) {
    for (const listener of this.listeners) listener(this.screen, { moving });
  }

  adopt(answer) {
    this.screen = answer.screen;
    this.depth = { undo: answer.undo, redo: answer.redo };
    this.writeLink();
    this.notify(false);
  }

  // Shows a change without taking it: it is taken by `change`.
  preview(fields) {
    this.screen = { ...this.screen, ...fields };
    this.notify(true);
  }

  // Takes a step. The page shows it at once; where the server refuses, its own state comes back.
  async change(fields) {
    this.screen = { ...this.screen, ...fields };
    this.notify(false);
    this.sending = (this.sending ?? 0) + 1;
    try {
      const answer = await this.connection.ask("change", { screen: fields });
      if (this.sending === 1) this.adoptQuietly(answer);
    } catch (error) {
      await this.reload();
      throw error;
    } finally {
      this.sending -= 1;
    }
  }

  adoptQuietly(answer) {
    this.depth = { undo: answer.undo, redo: answer.redo };
    const differs = JSON.stringify(answer.screen) !== JSON.stringify(this.screen);
    this.screen = answer.screen;
    this.writeLink();
    this.notifyDepth?.();
    if (differs) this.notify(false);
  }

  async reload() {
    if (this.connection.isOpen) this.adopt(await this.connection.ask("hello"));
  }

  async undo() {
    this.adopt(await this.connection.ask("undo"));
  }

  async redo() {
    this.adopt(await this.connection.ask("redo"));
  }

  // The fields that differ from a new tab's, in the address after #. Long ones (many keyframes) are left to PNG files.
  writeLink() {
    const differing = {};
    for (const [name, value] of Object.entries(this.screen)) {
      if (JSON.stringify(value) !== JSON.stringify(this.first[name])) differing[name] = value;
    }
    const text = encodeURIComponent(JSON.stringify(differing));
    const hash = Object.keys(differing).length && text.length < 60000 ? `#${text}` : "";
    history.replaceState(null, "", location.pathname + hash);
  }
}

// The screen that the address holds; null where there is none.
export function screenOfLink() {
  try {
    return location.hash.length > 1 ? JSON.parse(decodeURIComponent(location.hash.slice(1))) : null;
  } catch {
    return null;
  }
}
