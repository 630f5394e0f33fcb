// The WebSocket: questions with answers, pictures by slot, files, and coming back after the server was restarted.
export class Connection {
  constructor() {
    this.next = 1;
    this.waiting = new Map();
    this.onPicture = () => {};
    this.onPictureError = () => {};
    this.onOpen = () => {};
    this.onEvent = () => {};
    this.onLost = () => {};
    this.open();
  }

  open() {
    this.socket = new WebSocket(`ws://${location.host}/socket`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.onOpen();
    this.socket.onmessage = (event) => (typeof event.data === "string" ? this.text(event.data) : this.binary(event.data));
    this.socket.onclose = (event) => {
      for (const { reject } of this.waiting.values()) reject(new Error("the connection was lost"));
      this.waiting.clear();
      this.onLost(event.reason);
      setTimeout(() => this.open(), 1500);
    };
  }

  get isOpen() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  // Says something that has no answer.
  tell(type, fields = {}) {
    if (this.isOpen) this.socket.send(JSON.stringify({ type, id: this.next++, ...fields }));
  }

  // Asks; `progress` is called with what long work says on its way. The promise has `job`, its number.
  ask(type, fields = {}, progress = () => {}) {
    const id = this.next++;
    const promise = new Promise((resolve, reject) => {
      if (!this.isOpen) return reject(new Error("the server does not answer"));
      this.waiting.set(id, { resolve, reject, progress });
      this.socket.send(JSON.stringify({ type, id, ...fields }));
    });
    promise.job = id;
    return promise;
  }

  text(data) {
    const message = JSON.parse(data);
    const waiting = this.waiting.get(message.id);
    if (message.type === "progress") return waiting?.progress(message);
    if (message.type === "event") return this.onEvent(message);
    if (message.slot) return this.onPictureError(message.slot, message.error);
    this.waiting.delete(message.id);
    if (message.type === "error") return waiting ? waiting.reject(new Error(message.error)) : this.onPictureError("", message.error);
    waiting?.resolve(message);
  }

  binary(buffer) {
    const length = new DataView(buffer).getUint32(0);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const blob = new Blob([new Uint8Array(buffer, 4 + length)], { type: head.kind });
    if (head.slot !== undefined) return this.onPicture(head, blob);
    this.waiting.get(head.id)?.resolve({ ...head, blob });
    this.waiting.delete(head.id);
  }
}
