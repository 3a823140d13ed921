"use strict";
const { step: lastStep, panels } = JSON.parse(document.getElementById("data").textContent);
const svg = (name, attributes, parent) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
};
const short = (v) => {
  const size = Math.abs(v);
  if (size >= 1e6) return +(v / 1e6).toPrecision(3) + "M";
  if (size >= 1e4) return +(v / 1e3).toPrecision(3) + "k";
  if (size > 0 && size < 1e-3) return v.toExponential(1).replace(".0e", "e");
  return String(+v.toPrecision(3));
};

// ---- theme: as the system has it, or as chosen here

const themes = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");
const remembered = {
  read() { try { return localStorage.getItem("elegan-theme"); } catch { return null; } },
  write(name) { try { localStorage.setItem("elegan-theme", name); } catch { /* then not */ } },
};
function useTheme(name) {
  document.documentElement.dataset.theme = name;
  themeButton.querySelector("b").textContent = name;
}
useTheme(themes.includes(remembered.read()) ? remembered.read() : "system");
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
  useTheme(next);
  remembered.write(next);
});

// ---- curves

const MARGIN = { left: 54, right: 10, top: 14, bottom: 22 };
const HEIGHT = 240;
const charts = [];

function ticksOf(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough * 0.999);
  const ticks = [];
  for (let k = Math.ceil(low / size); k * size <= high * (1 + 1e-9); k++) ticks.push(k * size);
  return ticks;
}

// logarithmic where all is above 0; else logarithmic away from 0 and straight near it
function logarithm(values) {
  const sizes = values.map(Math.abs).filter((v) => v > 0);
  const positive = values.every((v) => v > 0);
  const small = positive ? 1 : Math.max(Math.min(...sizes), Math.max(...sizes) / 1e4);
  const map = positive ? Math.log10 : (v) => Math.sign(v) * Math.log10(1 + Math.abs(v) / small);
  const powers = [];
  for (let p = Math.floor(Math.log10(Math.min(...sizes))); p <= Math.ceil(Math.log10(Math.max(...sizes))); p++) {
    for (const k of [1, 2, 5]) powers.push(k * 10 ** p);
  }
  return { map, candidates: positive ? powers : [0, ...powers.flatMap((v) => (v >= small ? [v, -v] : []))] };
}

const isPower = (v) => v === 0 || Math.abs(Math.log10(Math.abs(v)) - Math.round(Math.log10(Math.abs(v)))) < 1e-9;

class Chart {
  constructor(panel, curves) {
    this.curves = curves.map((curve, k) => ({ ...curve, color: `var(--s${k % 8})`, dash: k < 8 ? "" : "5 3", on: true }));
    this.plot = panel.querySelector(".plot");
    this.log = panel.querySelector(".log");
    this.title = panel.querySelector("h3").textContent;
    this.log.addEventListener("click", () => {
      this.log.setAttribute("aria-pressed", String(this.log.getAttribute("aria-pressed") !== "true"));
      this.draw();
    });
    for (const curve of this.curves) this.addToLegend(panel.querySelector(".legend"), curve);
    this.draw();
  }

  addToLegend(legend, curve) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.title = "show or hide";
    const mark = svg("svg", { viewBox: "0 0 20 8", "aria-hidden": "true" });
    svg("line", { x1: 0, x2: 20, y1: 4, y2: 4, stroke: curve.color, "stroke-width": 3, "stroke-dasharray": curve.dash }, mark);
    curve.output = document.createElement("output");
    button.append(mark, curve.name, curve.output);
    button.addEventListener("click", () => {
      curve.on = !curve.on;
      button.setAttribute("aria-pressed", String(curve.on));
      this.draw();
    });
    legend.append(button);
  }

  draw() {
    const width = Math.max(240, this.plot.clientWidth);
    this.x = (step) => MARGIN.left + (step / Math.max(1, lastStep)) * (width - MARGIN.left - MARGIN.right);
    this.step = (x) => ((x - MARGIN.left) / (width - MARGIN.left - MARGIN.right)) * Math.max(1, lastStep);
    const on = this.curves.filter((curve) => curve.on);
    const values = on.flatMap((curve) => curve.values.filter((v) => v !== null));
    const logarithmic = this.log.getAttribute("aria-pressed") === "true" && values.some((v) => v !== 0);
    const { map, candidates } = logarithmic ? logarithm(values) : { map: (v) => v, candidates: null };
    let low = Math.min(...values.map(map)), high = Math.max(...values.map(map));
    if (!values.length) [low, high] = [0, 1];
    if (!logarithmic && low > 0 && low < high * 0.75) low = 0;
    const air = (high - low || Math.abs(high) || 1) * 0.04;
    if (low !== 0) low -= air;
    high += air;
    const y = (v) => MARGIN.top + (1 - (map(v) - low) / (high - low)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    let ticks = candidates ? candidates.filter((v) => map(v) >= low && map(v) <= high) : ticksOf(low, high, 4);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    if (candidates && ticks.length < 3) ticks = least === most ? [least] : ticksOf(least, most, 4);
    if (ticks.length > 7) ticks = ticks.filter(isPower);
    while (ticks.length > 7) ticks = ticks.filter((v, k) => k % 2 === 0);

    const root = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", tabindex: "0" });
    root.setAttribute("aria-label", `${this.title} over ${lastStep.toLocaleString("en")} steps: ` +
      on.map((curve) => `${curve.name}, last ${short(curve.values.findLast((v) => v !== null) ?? NaN)}`).join("; "));
    for (const tick of ticks) {
      svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }, root);
      svg("text", { x: MARGIN.left - 7, y: y(tick) + 4, "text-anchor": "end" }, root).textContent = short(tick);
    }
    for (const tick of ticksOf(0, lastStep, Math.max(2, Math.floor(width / 110)))) {
      if (tick % 1) continue;
      const anchor = this.x(tick) > width - 30 ? "end" : "middle";
      svg("text", { x: this.x(tick), y: HEIGHT - 5, "text-anchor": anchor }, root).textContent = short(tick);
    }
    for (const curve of on) {
      let path = "", pen = false;
      curve.values.forEach((v, k) => {
        if (v !== null) path += `${pen ? "L" : "M"}${this.x(curve.steps[k]).toFixed(1)} ${y(v).toFixed(1)}`;
        pen = v !== null;
      });
      if (curve.values.length === 1) path += "h3";
      svg("path", { class: "curve", d: path, stroke: curve.color, "stroke-dasharray": curve.dash }, root);
    }
    this.cursor = svg("line", { class: "cursor", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }, root);
    this.at = svg("text", { class: "at", y: MARGIN.top - 3 }, root);
    root.addEventListener("pointermove", (event) => point(this.nearest(this.stepUnder(event))));
    root.addEventListener("pointerleave", () => point(null));
    root.addEventListener("click", (event) => show(frameNear(this.nearest(this.stepUnder(event)))));
    root.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      const steps = this.longest().steps;
      const k = steps.indexOf(this.nearest(marked()));
      point(steps[Math.min(steps.length - 1, Math.max(0, k + by * Math.ceil(steps.length / 100)))]);
    });
    root.addEventListener("blur", () => point(null));
    this.plot.replaceChildren(root);
    this.mark(marked(), width);
    this.width = width;
  }

  stepUnder(event) { return this.step(event.clientX - this.plot.getBoundingClientRect().left); }
  longest() { return this.curves.reduce((a, b) => (b.steps.length > a.steps.length ? b : a)); }
  nearest(step) { const { steps } = this.longest(); return steps[indexNear(steps, step)]; }

  mark(step, width = this.width) {
    const x = this.x(Math.min(step, lastStep));
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.at.setAttribute("x", Math.min(Math.max(x, MARGIN.left), width - 4));
    this.at.setAttribute("text-anchor", x > width * 0.8 ? "end" : x < width * 0.2 ? "start" : "middle");
    this.at.textContent = `step ${step.toLocaleString("en")}`;
    for (const curve of this.curves) {
      const value = curve.values[indexNear(curve.steps, step)];
      curve.output.textContent = value === null ? "not finite" : short(value);
    }
  }
}

function indexNear(sorted, wanted) {
  let low = 0, high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < wanted) low = middle + 1; else high = middle;
  }
  return low > 0 && wanted - sorted[low - 1] < sorted[low] - wanted ? low - 1 : low;
}

let pointed = null; // the step under the pointer; without one, the step of the samples shown is marked
const marked = () => pointed ?? images[current]?.at ?? lastStep;
function point(step) {
  pointed = step;
  for (const chart of charts) chart.mark(marked());
}

// ---- samples over time

const images = [...document.querySelectorAll(".frames img")].map((element) => ({ element, at: Number(element.dataset.step) }));
const slider = document.getElementById("slider");
const play = document.getElementById("play");
let current = images.length - 1;
let timer = null;
const frameNear = (step) => indexNear(images.map((image) => image.at), step);

function show(index) {
  if (!images.length) return;
  current = Math.min(images.length - 1, Math.max(0, index));
  images.forEach(({ element }, k) => { element.hidden = k !== current; });
  if (slider) {
    const text = images[current].at.toLocaleString("en");
    slider.value = current;
    slider.setAttribute("aria-valuetext", `step ${text}`);
    document.getElementById("shown").textContent = text;
  }
  for (const chart of charts) chart.mark(marked());
}

function setPlaying(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => (current < images.length - 1 ? show(current + 1) : setPlaying(false)), 180) : null;
  play.textContent = on ? "Pause" : "Play";
  play.setAttribute("aria-pressed", String(on));
}

if (slider) {
  slider.addEventListener("input", () => { setPlaying(false); show(Number(slider.value)); });
  play.addEventListener("click", () => {
    if (!timer && current === images.length - 1) show(0);
    setPlaying(!timer);
  });
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const free = event.target === document.body || event.target === play;
    if (!by || !free || event.altKey || event.ctrlKey || event.metaKey) return;
    setPlaying(false);
    show(current + by);
  });
}

// ---- copying

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

for (const panel of document.querySelectorAll("[data-panel]")) charts.push(new Chart(panel, panels[panel.dataset.panel]));
let waiting = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => { for (const chart of charts) chart.draw(); });
});
