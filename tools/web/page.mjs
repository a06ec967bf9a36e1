// The page: connects the source of pictures, the network and the view.
//
// ?start begins at once, ?seconds=10 stops after so many seconds, and ?check=8 first compares so
// many computed frames with Python; the server prints the report.

import { checkFrame, Cropper, Sampler } from "./frames.mjs";
import { LocalNetwork, NoWasm } from "./local.mjs";
import { RemoteNetwork, Server, ServerGone } from "./remote.mjs";
import { listCameras, Source, SourceError } from "./source.mjs";
import { Statistics } from "./statistics.mjs";
import { History, Palette, Timeline } from "./timeline.mjs";
import * as view from "./view.mjs";

const MOST_IN_FLIGHT = 2; // frames that are sent before the first of them is answered
const CALM_REDRAW = 1000; // ms between two drawings of the timeline with reduced motion
const VIDEO_ADDRESS = "/video";
const CAMERA = "camera:"; // options of the source: a camera with its id, or the video
const FILE = "file";

const request = new URLSearchParams(location.search);
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
const darkScheme = matchMedia("(prefers-color-scheme: dark)");

/** From one start to the next stop. */
class Run {
  constructor(rate) {
    this.sampler = new Sampler(rate);
    this.statistics = new Statistics();
    this.inFlight = 0;
    this.lastSeconds = -Infinity;
  }
}

class App {
  constructor(server, settings, network) {
    this.server = server;
    this.settings = settings;
    this.network = network;
    this.names = settings.class_names;
    this.cropper = new Cropper(settings.size, settings.share);
    this.video = view.element("picture");
    this.source = new Source(
      this.video,
      (seconds) => this.onPicture(seconds),
      (notice) => this.stop(notice),
    );
    this.bars = new view.Bars(view.element("bars"), this.names);
    this.history = new History();
    this.timeline = new Timeline(view.element("timeline"), view.element("events"), new Palette());
    this.timeline.names = this.names;
    this.fileAddress = settings.video ? VIDEO_ADDRESS : null;
    this.run = null;
    this.isReconnecting = false;
    this.lastDrawing = -Infinity;
    this.check = null;
  }

  // Controls

  listen() {
    const start = view.element("start");
    const file = view.element("file");
    start.addEventListener("click", () => this.toggle());
    view.element("open").addEventListener("click", () => file.click());
    file.addEventListener("change", () => this.openFile(file.files[0]));
    view.element("sources").addEventListener("change", () => this.start());
    document.addEventListener("keydown", (event) => this.onKey(event));
    for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
      document.addEventListener(type, (event) => this.onDrag(event));
    }
    addEventListener("pagehide", () => this.sendReport(true));
    new ResizeObserver(() => this.redraw()).observe(view.element("stage"));
    this.video.addEventListener("resize", () => view.placeCrop(this.video, this.cropper));
    darkScheme.addEventListener("change", () => this.redraw());
    for (const id of ["start", "open", "sources"]) {
      view.element(id).disabled = false;
    }
  }

  onKey(event) {
    const isControl = event.target.closest("button, select, input");
    if (event.code !== "Space" || isControl || event.repeat) {
      return;
    }
    event.preventDefault(); // the page would scroll
    this.toggle();
  }

  onDrag(event) {
    event.preventDefault(); // the browser would leave the page and show the file
    // Leaving an element for another one of the page is no end of it.
    const hasLeft = event.type === "dragleave" && event.relatedTarget === null;
    view.element("drop").hidden = hasLeft || event.type === "drop";
    if (event.type === "drop") {
      this.openFile(event.dataTransfer.files[0]);
    }
  }

  toggle() {
    if (this.run) {
      this.stop("stopped");
      return;
    }
    this.start();
  }

  openFile(file) {
    if (!file) {
      return;
    }
    if (this.fileAddress && this.fileAddress !== VIDEO_ADDRESS) {
      URL.revokeObjectURL(this.fileAddress);
    }
    this.fileAddress = URL.createObjectURL(file);
    this.offerFile(file.name);
    this.start();
  }

  /** Add the video to the sources, and choose it. */
  offerFile(name) {
    const sources = view.element("sources");
    sources.querySelector(`option[value=${FILE}]`)?.remove();
    sources.add(new Option(name, FILE, true, true), 0);
  }

  async offerCameras() {
    const sources = view.element("sources");
    const chosen = this.source.cameraId();
    const cameras = await listCameras();
    if (cameras.length === 0) {
      return;
    }
    for (const option of sources.querySelectorAll(`option[value^="${CAMERA}"]`)) {
      option.remove();
    }
    for (const { id, name } of cameras) {
      sources.add(new Option(name, CAMERA + id, false, id === chosen));
    }
  }

  // Start and stop

  async start() {
    this.finish();
    const chosen = view.element("sources").value;
    const run = new Run(this.settings.rate);
    this.run = run;
    this.network.restart();
    this.history.clear();
    this.bars.clear();
    view.showFigures(run.statistics);
    this.showRunning(true);
    try {
      if (chosen === FILE) {
        view.showNotice(null);
        await this.source.openFile(this.fileAddress);
      } else {
        view.showNotice("asking");
        await this.source.openCamera(chosen.slice(CAMERA.length));
      }
    } catch (error) {
      if (this.run === run) {
        this.stopWith(error);
      }
      return;
    }
    if (this.run !== run) {
      return; // stopped, or started again, meanwhile
    }
    if (!this.source.isFile) {
      this.offerCameras();
    }
    view.showNotice(null);
    view.placeCrop(this.video, this.cropper);
    if (request.has("seconds")) {
      const milliseconds = 1000 * Number(request.get("seconds"));
      setTimeout(() => this.run === run && this.stop("stopped"), milliseconds);
    }
  }

  /** End the run, and show a state in place of the picture. */
  stop(notice, text) {
    this.finish();
    view.showNotice(notice, text);
  }

  stopWith(error) {
    if (error instanceof SourceError) {
      this.stop(error.notice);
      return;
    }
    console.error(error);
    this.stop("failed", error.message);
  }

  finish() {
    this.sendReport(false);
    this.source.close();
    this.run = null;
    this.showRunning(false);
    view.hideAnswer();
    view.element("crop").hidden = true;
  }

  showRunning(isRunning) {
    view.element("start").textContent = isRunning ? "Stop" : "Start";
  }

  // Frames

  onPicture(seconds) {
    const run = this.run;
    if (!run || this.isReconnecting) {
      return;
    }
    if (seconds < run.lastSeconds) {
      this.restartStream(run); // the viewer went back in the video
    }
    run.lastSeconds = seconds;
    if (!run.sampler.isDue(seconds)) {
      return;
    }
    if (run.inFlight >= MOST_IN_FLIGHT) {
      run.statistics.skipped++;
      return;
    }
    run.sampler.take(seconds);
    this.push(run, seconds);
  }

  async push(run, seconds) {
    const start = performance.now();
    run.inFlight++;
    try {
      const result = await this.network.push(this.cropper.cut(this.video), seconds);
      if (this.run === run) {
        const now = performance.now();
        run.statistics.addFrame(now);
        this.show(run, result, now - start, seconds);
      }
    } catch (error) {
      if (this.run === run) {
        this.onFailure(error);
      }
    } finally {
      run.inFlight--;
    }
  }

  /** @param {object | null} result null if the frame alone leads to none. */
  show(run, result, roundTrip, seconds) {
    if (result === null) {
      view.showFigures(run.statistics);
      return;
    }
    const { probabilities, label } = result;
    // The clip of a result may have ended before this frame.
    run.statistics.addResult(Math.max(roundTrip, result.latency ?? 0), label);
    view.showFigures(run.statistics);
    const name = label === null ? null : this.names[label];
    view.showAnswer(name, probabilities[label]);
    this.bars.show(probabilities, label);
    this.history.add(label, seconds);
    const now = performance.now();
    if (reducedMotion.matches && now - this.lastDrawing < CALM_REDRAW) {
      return;
    }
    this.lastDrawing = now;
    this.timeline.draw(this.history);
  }

  restartStream(run) {
    this.network.restart();
    this.history.clear();
    run.sampler = new Sampler(this.settings.rate);
  }

  redraw() {
    this.timeline.draw(this.history);
    if (this.run) {
      view.placeCrop(this.video, this.cropper);
    }
  }

  onFailure(error) {
    if (!(error instanceof ServerGone)) {
      this.stopWith(error);
      return;
    }
    if (!this.isReconnecting) {
      this.reconnect();
    }
  }

  /** Wait for the server; the picture continues meanwhile. */
  async reconnect() {
    this.isReconnecting = true;
    let settings;
    try {
      settings = await reconnect(this.server);
    } catch (error) {
      this.stopWith(error);
      return;
    } finally {
      this.isReconnecting = false;
    }
    if (JSON.stringify(settings) !== JSON.stringify(this.settings)) {
      location.reload(); // another network
      return;
    }
    if (this.run) {
      this.restartStream(this.run);
    }
  }

  // Reports

  sendReport(isClosing) {
    if (!this.run || (this.run.statistics.arrivals.length === 0 && !this.check)) {
      return;
    }
    const report = {
      ...this.run.statistics.report(),
      ...this.network.details,
      client: this.network.client,
      source: this.source.isFile ? "video" : "camera",
      check: this.check,
    };
    this.check = null;
    this.server.report(report, isClosing).catch(() => {}); // nobody waits for it
  }

  /** The scores of computed frames, for the report: Python compares. */
  async runCheck(count) {
    if (!this.settings.steps || this.settings.rate === null) {
      return; // not every frame has a result
    }
    this.check = [];
    for (let index = 0; index < count; index++) {
      const pixels = checkFrame(index, this.settings.size);
      const result = await this.network.push(pixels, index / this.settings.rate);
      this.check.push(Array.from(result.scores));
    }
    this.network.restart();
  }
}

async function reconnect(server) {
  view.showBanner("The server does not answer. Is tools/live.py still running? Trying again…");
  try {
    return await server.reconnect();
  } finally {
    view.showBanner("");
  }
}

async function firstSettings(server) {
  try {
    return await server.settings();
  } catch (error) {
    if (!(error instanceof ServerGone)) {
      throw error;
    }
    return reconnect(server);
  }
}

async function main() {
  view.showNotice("loading");
  const server = new Server();
  const settings = await firstSettings(server);
  view.element("network").textContent = settings.description;
  let network;
  if (settings.step) {
    view.element("privacy").textContent = "Nothing leaves this page";
    view.showNotice("network");
    network = new LocalNetwork(settings);
  } else {
    view.element("privacy").textContent = "Frames go to Python on this machine, and nowhere else";
    network = new RemoteNetwork(server);
  }
  await network.open();
  const app = new App(server, settings, network);
  app.listen();
  app.redraw();
  if (settings.video) {
    app.offerFile(settings.video);
  }
  view.showNotice(settings.video ? "video" : "ready");
  if (request.has("check")) {
    await app.runCheck(Number(request.get("check")));
  }
  if (request.has("start")) {
    await app.start();
  }
}

main().catch((error) => {
  if (error instanceof NoWasm) {
    view.showNotice("no_wasm");
    return;
  }
  console.error(error);
  view.showNotice("failed", error.message);
});
