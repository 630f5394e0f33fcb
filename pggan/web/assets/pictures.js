// Pictures by slot: requests of one moment go out together, old ones are forgotten, moving ones never queue up.
export class Pictures {
  constructor(connection) {
    this.connection = connection;
    this.wanted = new Map(); // slot -> { picture, rank, show }
    this.outgoing = new Map();
    this.flying = new Map(); // slots that stream -> the request that waits for the one under way
    this.revision = 1;
    connection.onPicture = (head, blob) => this.arrive(head, blob);
    connection.onPictureError = (slot, text) => this.fail(slot, text);
    this.onError = () => {};
  }

  // Asks for a picture of a slot: {point, level, alpha, snapshot, quality}. `show(url, head)` is called with it.
  want(slot, picture, rank, show) {
    const rev = this.revision++;
    this.wanted.set(slot, { rev, show });
    if (!this.outgoing.size) queueMicrotask(() => this.flush());
    this.outgoing.set(slot, { rank, picture: { ...picture, slot, rev } });
  }

  // The same for a slot that moves: the next request goes out when the last one has been answered.
  stream(slot, picture, show) {
    if (this.flying.has(slot)) {
      this.flying.set(slot, { picture, show });
      return;
    }
    this.flying.set(slot, null);
    this.want(slot, picture, 0, show);
  }

  forget(slots) {
    const waiting = slots.filter((slot) => this.wanted.delete(slot));
    for (const slot of slots) this.outgoing.delete(slot);
    for (let at = 0; at < waiting.length; at += 500) this.connection.tell("forget", { slots: waiting.slice(at, at + 500) });
  }

  flush() {
    const ranks = Map.groupBy ? Map.groupBy(this.outgoing.values(), (entry) => entry.rank) : groupBy(this.outgoing.values());
    this.outgoing = new Map();
    for (const [rank, entries] of [...ranks].sort((a, b) => a[0] - b[0])) {
      for (let at = 0; at < entries.length; at += 100) {
        this.connection.tell("draw", { rank, pictures: entries.slice(at, at + 100).map((entry) => entry.picture) });
      }
    }
  }

  arrive(head, blob) {
    const wanted = this.wanted.get(head.slot);
    if (wanted && head.rev >= wanted.rev) this.wanted.delete(head.slot);
    if (wanted) wanted.show(URL.createObjectURL(blob), head);
    this.land(head.slot);
  }

  land(slot) {
    if (!this.flying.has(slot)) return;
    const next = this.flying.get(slot);
    this.flying.delete(slot);
    if (next) this.stream(slot, next.picture, next.show);
  }

  // A refused message names no slot: whatever streams may go on.
  fail(slot, text) {
    this.wanted.delete(slot);
    if (slot) this.flying.delete(slot);
    else this.flying.clear();
    this.onError(text);
  }

  // After the connection was lost nothing that was under way comes any more.
  reset() {
    this.wanted.clear();
    this.outgoing.clear();
    this.flying.clear();
  }
}

function groupBy(entries) {
  const groups = new Map();
  for (const entry of entries) groups.set(entry.rank, [...(groups.get(entry.rank) ?? []), entry]);
  return groups;
}

// Shows a picture in an <img>; the one before is given back. Tiny ones stay crisp.
export function showIn(img, url, head) {
  const old = img.src;
  img.src = url;
  img.classList.toggle("crisp", head.side < 48);
  if (old.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(old), 500);
}
