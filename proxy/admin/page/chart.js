// Line charts of the last minutes, as SVG. Each has its unit on the axis, and a sentence for those
// who do not see it.
import { make } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 480;
const HEIGHT = 176;
const LEFT = 62;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 24;

function svg(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  if (text !== undefined) {
    element.textContent = text;
  }
  return element;
}

// 1, 2 or 5 times a power of ten, not below the value.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

// The same in KiB, MiB and so on.
export function ceilingOfBytes(value) {
  const power = 1024 ** Math.floor(Math.log2(value) / 10);
  return power * ceiling(value / power);
}

// series: [{label, value(sample)}], at most two; format(number): with its unit; least: the axis
// reaches at least up to there.
export class Chart {
  constructor(title, series, format, least, ceil = ceiling) {
    this.ceil = ceil;
    this.series = series;
    this.format = format;
    this.least = least;
    this.drawing = svg("svg", { class: "chart", role: "img", preserveAspectRatio: "none", "aria-label": title });
    const legend = series.map((line, index) => make("span", {},
      make("span", { class: index === 0 ? "key" : "key second" }), line.label));
    this.element = make("figure", { class: "card" },
      make("figcaption", {}, make("h2", {}, title), make("span", { class: "legend" }, legend)),
      this.drawing);
    this.title = title;
  }

  draw(samples, spanMs) {
    const width = Math.max(260, Math.round(this.drawing.clientWidth || WIDTH));
    const now = samples.length === 0 ? 0 : samples[samples.length - 1].at;
    const values = samples.flatMap((sample) => this.series.map((line) => line.value(sample)));
    const known = values.filter((value) => value !== null && value !== undefined);
    const top = this.ceil(Math.max(this.least, ...known));
    const x = (at) => LEFT + (1 - (now - at) / spanMs) * (width - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      parts.push(svg("line", { class: share === 0 ? "axis" : "grid", x1: LEFT, x2: width - RIGHT,
        y1: y(top * share), y2: y(top * share) }));
      parts.push(svg("text", { x: LEFT - 8, y: y(top * share) + 4, "text-anchor": "end" },
        this.format(top * share)));
    }
    const minutes = spanMs / 60000;
    for (let tick = 0; tick <= 5; tick++) {
      const ago = (tick * minutes) / 5;
      const anchor = ago === 0 ? "end" : "middle";
      parts.push(svg("text", { x: x(now - ago * 60000), y: HEIGHT - 6, "text-anchor": anchor },
        ago === 0 ? "now" : minutes < 5 ? `−${Math.round(ago * 60)} s` : `−${ago} min`));
    }
    this.series.forEach((line, index) => {
      parts.push(svg("path", { class: index === 0 ? "first" : "second",
        d: this.path(samples, line, x, y) }));
    });
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.drawing.replaceChildren(...parts);
    this.drawing.setAttribute("aria-label", this.sentence(samples));
  }

  path(samples, line, x, y) {
    let drawing = false;
    let path = "";
    for (const sample of samples) {
      const value = line.value(sample);
      if (value === null || value === undefined) {
        drawing = false;
        continue;
      }
      path += `${drawing ? "L" : "M"}${x(sample.at).toFixed(1)} ${y(value).toFixed(1)}`;
      if (!drawing) {
        path += "h0.1"; // one that stands alone is seen, too
      }
      drawing = true;
    }
    return path;
  }

  sentence(samples) {
    const last = samples[samples.length - 1];
    const parts = this.series.map((line) => {
      const value = last === undefined ? null : line.value(last);
      return `${line.label}: ${value === null || value === undefined ? "nothing yet" : this.format(value)}`;
    });
    return `${this.title}. Now, ${parts.join("; ")}.`;
  }
}

