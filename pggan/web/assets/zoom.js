// Zooming and panning of the stage: wheel, drag, pinch, double click; and the wipe between two pictures.
export class Zoom {
  constructor(view, frame) {
    Object.assign(this, { view, frame, scale: 1, x: 0, y: 0 });
    this.fingers = new Map();
    view.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    view.addEventListener("pointerdown", (event) => this.down(event));
    view.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) view.addEventListener(name, (event) => this.fingers.delete(event.pointerId));
    view.addEventListener("dblclick", (event) => this.to(this.scale > 1.05 ? 1 : 4, event.clientX, event.clientY));
  }

  // Zooms so that what is under a place of the page stays there.
  to(scale, pageX, pageY) {
    const next = Math.max(1, Math.min(32, scale));
    const box = this.frame.getBoundingClientRect();
    const left = (pageX ?? box.left + box.width / 2) - box.left;
    const top = (pageY ?? box.top + box.height / 2) - box.top;
    this.x -= left * (next / this.scale - 1);
    this.y -= top * (next / this.scale - 1);
    this.scale = next;
    this.apply();
  }

  apply() {
    const most = this.frame.offsetWidth * (this.scale - 1);
    this.x = Math.min(0, Math.max(-most, this.x));
    this.y = Math.min(0, Math.max(-most, this.y));
    this.frame.style.transform = this.scale === 1 ? "" : `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
  }

  wheel(event) {
    event.preventDefault();
    this.to(this.scale * Math.exp(-event.deltaY * 0.0016), event.clientX, event.clientY);
  }

  down(event) {
    if (event.target.closest(".wipe, button, canvas.paint")) return;
    this.view.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, event);
  }

  move(event) {
    const last = this.fingers.get(event.pointerId);
    if (!last) return;
    const others = [...this.fingers.values()].filter((finger) => finger.pointerId !== event.pointerId);
    if (others.length) {
      const apart = (a) => Math.hypot(a.clientX - others[0].clientX, a.clientY - others[0].clientY) || 1;
      this.to((this.scale * apart(event)) / apart(last), (event.clientX + others[0].clientX) / 2, (event.clientY + others[0].clientY) / 2);
    } else {
      this.x += event.clientX - last.clientX;
      this.y += event.clientY - last.clientY;
      this.apply();
    }
    this.fingers.set(event.pointerId, event);
  }
}

// The upright line that parts A (left) from B (right). It is a slider for keyboards and screen readers.
export class Wipe {
  constructor(handle, frame, over) {
    Object.assign(this, { handle, frame, over });
    this.set(50);
    handle.addEventListener("pointerdown", (event) => (handle.setPointerCapture(event.pointerId), event.stopPropagation()));
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = frame.getBoundingClientRect();
      this.set((100 * (event.clientX - box.left)) / box.width);
    });
    handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -4, ArrowRight: 4, Home: -100, End: 100 }[event.key];
      if (!step) return;
      this.set(this.at + step);
      event.preventDefault();
      event.stopPropagation();
    });
  }

  set(percent) {
    this.at = Math.max(0, Math.min(100, percent));
    this.handle.style.left = `${this.at}%`;
    this.handle.setAttribute("aria-valuenow", String(Math.round(this.at)));
    this.over.style.clipPath = `inset(0 0 0 ${this.at}%)`;
  }
}
