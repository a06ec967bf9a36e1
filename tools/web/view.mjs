// What the page shows: texts, bars and numbers, written into the elements of index.html.

import { NOTICES } from "./messages.mjs";

const MOST_BARS = 5;
const LONG_NAME = 30; // characters that fit into a line of the panel

export function element(id) {
  return document.getElementById(id);
}

/** The state in place of the picture. `text` replaces that of the state; null shows the picture. */
export function showNotice(key, text) {
  element("notice").hidden = key === null;
  if (key === null) {
    return;
  }
  const [title, usualText] = NOTICES[key];
  element("notice_title").textContent = title;
  element("notice_text").textContent = text ?? usualText;
}

/** A line above the page; "" removes it. */
export function showBanner(text) {
  const banner = element("banner");
  banner.hidden = text === "";
  banner.textContent = text;
}

/** @returns {number[]} the labels of the most probable classes. */
export function bestLabels(probabilities, count = MOST_BARS) {
  const labels = Array.from(probabilities, (_, label) => label);
  labels.sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  return labels.slice(0, count);
}

/** The bars of the most probable classes. */
export class Bars {
  constructor(list, names) {
    this.names = names;
    this.rows = Array.from({ length: Math.min(MOST_BARS, names.length) }, () => makeRow());
    list.replaceChildren(...this.rows.map((row) => row.item));
    list.classList.toggle("long", names.some((name) => name.length > LONG_NAME));
    this.clear();
  }

  /**
   * @param {number[]} probabilities of all classes.
   * @param {number | null} current label, which is printed in bold.
   */
  show(probabilities, current) {
    const labels = bestLabels(probabilities, this.rows.length);
    this.rows.forEach((row, place) => {
      const label = labels[place];
      const percent = 100 * probabilities[label];
      row.item.classList.toggle("current", label === current);
      row.name.textContent = this.names[label];
      row.name.title = this.names[label];
      row.percent.textContent = `${percent.toFixed(0)} %`;
      row.fill.style.width = `${percent}%`;
    });
  }

  clear() {
    for (const row of this.rows) {
      row.item.classList.remove("current");
      row.name.textContent = "–";
      row.name.title = "";
      row.percent.textContent = "";
      row.fill.style.width = "0";
    }
  }
}

function makeRow() {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.className = "name";
  const percent = document.createElement("span");
  percent.className = "percent";
  const track = document.createElement("div");
  track.className = "track";
  const fill = document.createElement("div");
  fill.className = "fill";
  track.append(fill);
  item.append(name, percent, track);
  return { item, name, percent, fill };
}

/** The label on the picture: the class now, its probability, "no action" where there is none. */
export function showAnswer(name, probability) {
  element("answer").hidden = false;
  const label = element("label");
  const text = name ?? "No action";
  if (label.textContent !== text) {
    label.textContent = text; // read aloud, so only when it changes
    label.classList.toggle("none", name === null);
  }
  element("confidence").textContent = name === null ? "" : `${(100 * probability).toFixed(0)} %`;
}

export function hideAnswer() {
  element("answer").hidden = true;
  element("label").textContent = "";
}

/** @param {Statistics} statistics of the frames since the start. */
export function showFigures(statistics) {
  element("rate").textContent = numeral(statistics.recentRate(), 1, "");
  element("latency").textContent = numeral(statistics.recentLatency(), 0, " ms");
  element("skipped").textContent = String(statistics.skipped);
}

function numeral(value, digits, unit) {
  return Number.isNaN(value) ? "–" : `${value.toFixed(digits)}${unit}`;
}

/** Lay the frame's outline over the picture: everything outside is not seen by the network. */
export function placeCrop(video, cropper) {
  const crop = element("crop");
  crop.hidden = video.videoWidth === 0;
  if (crop.hidden) {
    return;
  }
  const { clientWidth: width, clientHeight: height } = video;
  const scale = Math.min(width / video.videoWidth, height / video.videoHeight);
  const { x, y, side } = cropper.square(video.videoWidth, video.videoHeight);
  crop.style.left = `${(width - scale * video.videoWidth) / 2 + scale * x}px`;
  crop.style.top = `${(height - scale * video.videoHeight) / 2 + scale * y}px`;
  crop.style.width = `${scale * side}px`;
  crop.style.height = `${scale * side}px`;
}
