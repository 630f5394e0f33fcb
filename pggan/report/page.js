"use strict";
// Everything here is extra: without it the grids scroll, and the charts show their last values.
(() => {
  const number = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2)
      : size >= 1e4 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
    return text.replaceAll("-", "−");
  };

  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle + 1; else high = middle;
    }
    return low > 0 && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
  };

  for (const figure of document.querySelectorAll("[data-chart]")) {
    const data = JSON.parse(figure.dataset.chart);
    const plot = figure.querySelector(".plot"), svg = plot.querySelector("svg"), cross = svg.querySelector(".cross");
    const values = figure.querySelectorAll(".value"), at = figure.querySelector(".at");
    const before = [...values].map((value) => value.textContent), atEnd = at.textContent;
    const longest = data.curves.reduce((a, b) => (b.x.length > a.x.length ? b : a)).x;
    let place = longest.length - 1;

    const read = () => {
      const x = longest[place], share = data.left + (data.right - data.left) * Math.min(x / data.end, 1);
      const along = share * svg.viewBox.baseVal.width;
      cross.setAttribute("x1", along);
      cross.setAttribute("x2", along);
      plot.classList.add("reading");
      data.curves.forEach((curve, n) => { values[n].textContent = number(curve.y[nearest(curve.x, x)]); });
      at.textContent = `at ${x.toLocaleString("en", { maximumFractionDigits: 1 })} kimg`;
    };
    const rest = () => {
      plot.classList.remove("reading");
      values.forEach((value, n) => { value.textContent = before[n]; });
      at.textContent = atEnd;
    };
    plot.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width - data.left) / (data.right - data.left);
      place = nearest(longest, share * data.end);
      read();
    });
    plot.addEventListener("pointerleave", rest);
    plot.addEventListener("blur", rest);
    plot.addEventListener("keydown", (event) => {
      const stride = event.shiftKey ? 10 : 1, last = longest.length - 1;
      const to = { ArrowLeft: place - stride, ArrowRight: place + stride, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      place = Math.max(0, Math.min(last, to));
      read();
    });
    at.setAttribute("aria-live", "polite");
    for (const button of figure.querySelectorAll(".legend button")) {
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(shown));
        for (const part of svg.querySelectorAll(`[data-curve="${button.dataset.curve}"]`)) {
          part.classList.toggle("off", !shown);
        }
      });
    }
  }

  for (const samples of document.querySelectorAll(".samples")) {
    const figures = [...samples.querySelectorAll(".strip figure")], reals = [...samples.querySelectorAll(".reals figure")];
    const slider = samples.querySelector("input"), when = samples.querySelector(".when");
    const play = samples.querySelector(".play"), jumps = [...samples.querySelectorAll("[data-to]")];
    let timer = null;

    const show = (wanted) => {
      const now = Math.max(0, Math.min(figures.length - 1, wanted)), side = figures[now].dataset.side;
      figures.forEach((figure, n) => { figure.hidden = n !== now; });
      slider.value = now;
      when.textContent = figures[now].querySelector("figcaption").textContent;
      slider.setAttribute("aria-valuetext", when.textContent);
      if (reals.some((figure) => figure.dataset.side === side)) {
        reals.forEach((figure) => { figure.hidden = figure.dataset.side !== side; });
      }
      const stage = jumps.findIndex((button) => Number(button.dataset.to) >= now);
      jumps.forEach((button, n) => { button.toggleAttribute("aria-current", n === stage); });
    };
    const halt = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "play";
      play.setAttribute("aria-pressed", "false");
    };
    const start = () => {
      if (Number(slider.value) === figures.length - 1) show(0);
      play.textContent = "stop";
      play.setAttribute("aria-pressed", "true");
      timer = setInterval(() => {
        show(Number(slider.value) + 1);
        if (Number(slider.value) === figures.length - 1) halt();
      }, 600);
    };
    play.addEventListener("click", () => (timer === null ? start() : halt()));
    slider.addEventListener("input", () => { halt(); show(Number(slider.value)); });
    for (const button of jumps) {
      button.addEventListener("click", () => { halt(); show(Number(button.dataset.to)); });
    }
    samples.querySelector(".strip").removeAttribute("tabindex");
    samples.querySelector(".controls").hidden = figures.length < 2;
    figures.forEach((figure) => { figure.querySelector("figcaption").hidden = figures.length > 1; });
    show(figures.length - 1);
  }

  for (const growth of document.querySelectorAll(".growth")) {
    const button = growth.querySelector(".stop"), moving = growth.querySelector("picture");
    const still = growth.querySelector(".still");
    button.hidden = matchMedia("(prefers-reduced-motion: reduce)").matches;
    button.addEventListener("click", () => {
      moving.hidden = !moving.hidden;
      still.hidden = !moving.hidden;
      button.textContent = moving.hidden ? "play" : "stop";
    });
  }
})();
