// The classes of the last minute: blocks on a canvas, and the same as a list of text.

const SPAN = 60; // seconds that are shown
const TICK = 10; // seconds between the marks, and twice that where there is little room
const LITTLE_ROOM = 480; // px
const TICK_ALIGN = { 0: "right", [SPAN]: "left" }; // the outer marks stay within the canvas
const MOST_LINES = 3; // of a name in its block
const LINE = 14; // px
const AXIS = 16; // px below the blocks
const ROUNDING = 3; // px
const PADDING = 6; // px beside a name in its block
const FONT = "12px system-ui, 'Noto Sans', 'DejaVu Sans', sans-serif";

// Okabe and Ito's colors with two more, and the text color that can be read on each.
const COLORS = [
  ["#0072b2", "#ffffff"],
  ["#d55e00", "#000000"],
  ["#009e73", "#000000"],
  ["#cc79a7", "#000000"],
  ["#e69f00", "#000000"],
  ["#56b4e9", "#000000"],
  ["#6a51a3", "#ffffff"],
  ["#8c5a2b", "#ffffff"],
];

/** Gives each class a color when it is first seen, so that neighbors differ. */
export class Palette {
  constructor() {
    this.indices = new Map();
  }

  /** @returns {[string, string]} the color of a class and that of text on it. */
  of(label) {
    if (!this.indices.has(label)) {
      this.indices.set(label, this.indices.size % COLORS.length);
    }
    return COLORS[this.indices.get(label)];
  }
}

/** Blocks of equal labels: {label, start, end}, in seconds, oldest first. */
export class History {
  constructor() {
    this.blocks = [];
    this.now = 0;
  }

  clear() {
    this.blocks = [];
    this.now = 0;
  }

  /** @param {number | null} label at a time; null is no class, and no block. */
  add(label, seconds) {
    this.now = seconds;
    const open = this.blocks.at(-1);
    if (open && open.isOpen) {
      open.end = seconds;
      open.isOpen = label === open.label;
    }
    if (label !== null && !(open && open.isOpen)) {
      this.blocks.push({ label, start: seconds, end: seconds, isOpen: true });
    }
    while (this.blocks.length > 0 && this.blocks[0].end < seconds - SPAN) {
      this.blocks.shift();
    }
  }
}

/** Draws a History. */
export class Timeline {
  /**
   * @param {HTMLCanvasElement} canvas for the blocks.
   * @param {HTMLOListElement} list for the text.
   * @param {Palette} palette
   */
  constructor(canvas, list, palette) {
    this.canvas = canvas;
    this.list = list;
    this.palette = palette;
    this.names = [];
    this.listed = "";
  }

  /** @param {History} history */
  draw(history) {
    const { width, height, context } = this.prepare();
    const pixels = width / SPAN;
    const toX = (seconds) => width - (history.now - seconds) * pixels;
    this.drawAxis(context, width, height);
    for (const block of history.blocks) {
      const left = Math.max(0, toX(block.start));
      const right = Math.max(left + 2, toX(block.end));
      this.drawBlock(context, block.label, left, right, height - AXIS);
    }
    this.write(history);
  }

  /** Fit the canvas to its place on the screen, and clear it. */
  prepare() {
    const { width, height } = this.canvas.getBoundingClientRect();
    const density = window.devicePixelRatio;
    const context = this.canvas.getContext("2d");
    if (this.canvas.width !== Math.round(width * density)) {
      this.canvas.width = Math.round(width * density);
      this.canvas.height = Math.round(height * density);
    }
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = FONT;
    context.textBaseline = "middle";
    return { width, height, context };
  }

  drawAxis(context, width, height) {
    const color = getComputedStyle(this.canvas).color;
    context.fillStyle = color;
    context.strokeStyle = color;
    context.globalAlpha = 0.35;
    context.strokeRect(0.5, 0.5, width - 1, height - AXIS - 1);
    context.globalAlpha = 1;
    const tick = width < LITTLE_ROOM ? 2 * TICK : TICK;
    for (let ago = 0; ago <= SPAN; ago += tick) {
      const x = width * (1 - ago / SPAN);
      context.textAlign = TICK_ALIGN[ago] ?? "center";
      context.fillText(ago === 0 ? "now" : `−${ago} s`, x, height - AXIS / 2 + 1);
    }
  }

  drawBlock(context, label, left, right, height) {
    const [color, ink] = this.palette.of(label);
    context.fillStyle = color;
    context.beginPath();
    context.roundRect(left, 1, right - left, height - 2, ROUNDING);
    context.fill();
    const lines = wrapped(context, this.names[label], right - left - 2 * PADDING);
    const top = height / 2 - (LINE * (lines.length - 1)) / 2;
    context.fillStyle = ink;
    context.textAlign = "left";
    lines.forEach((line, number) => context.fillText(line, left + PADDING, top + LINE * number));
  }

  /** The classes and their seconds as text, latest first; rewritten only when it changes. */
  write(history) {
    const seconds = new Map();
    for (const block of history.blocks.toReversed()) {
      const before = seconds.get(block.label) ?? 0;
      seconds.set(block.label, before + block.end - Math.max(block.start, history.now - SPAN));
    }
    const lines = Array.from(seconds, ([label, total]) => ({ label, when: `${total.toFixed(0)} s` }));
    const content = JSON.stringify(lines);
    if (content === this.listed) {
      return;
    }
    this.listed = content;
    this.list.replaceChildren(...lines.map((line) => this.item(line)));
  }

  item({ label, when }) {
    const item = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = this.palette.of(label)[0];
    const time = document.createElement("span");
    time.className = "when";
    time.textContent = when;
    item.append(swatch, `${this.names[label]} `, time);
    return item;
  }
}

/** The lines of a text in a width; none where the text needs more than there is room for. */
function wrapped(context, text, width) {
  const lines = [];
  for (const word of text.split(" ")) {
    const longer = lines.length > 0 ? `${lines.at(-1)} ${word}` : word;
    if (lines.length > 0 && context.measureText(longer).width <= width) {
      lines[lines.length - 1] = longer;
    } else {
      lines.push(word);
    }
  }
  const fits = lines.every((line) => context.measureText(line).width <= width);
  return fits && lines.length <= MOST_LINES ? lines : [];
}
