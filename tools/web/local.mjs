// The network in the page: the same interface as RemoteNetwork, and nothing leaves the page.

import { Smoother } from "./smoother.mjs";

const MOST_THREADS = 4;

/** This browser does not run WebAssembly. */
export class NoWasm extends Error {}

/**
 * One core is left for the camera and the page: threads of WebAssembly that wait keep their core
 * busy. Without the isolation headers there is no shared memory, and so one thread.
 */
function countThreads() {
  if (!crossOriginIsolated) {
    return 1;
  }
  return Math.min(Math.max(navigator.hardwareConcurrency - 1, 1), MOST_THREADS);
}

/** The exported step in a worker, and the smoothing of its scores. */
export class LocalNetwork {
  constructor(settings) {
    this.settings = settings;
    this.smoother = null;
    this.worker = null;
    this.waiting = new Map(); // number of a frame -> {resolve, reject}
    this.frames = 0;
    this.details = { mode: "browser", threads: 0 };
  }

  async open() {
    if (typeof WebAssembly === "undefined") {
      throw new NoWasm();
    }
    this.worker = new Worker(new URL("./step_worker.mjs", import.meta.url), { type: "module" });
    const opened = new Promise((resolve, reject) => {
      this.waiting.set("open", { resolve, reject });
    });
    this.worker.addEventListener("message", ({ data }) => this.receive(data));
    this.worker.addEventListener("error", (event) => this.fail(event.message));
    const address = new URL(this.settings.step, location.href).href;
    const threads = countThreads();
    this.worker.postMessage({ type: "open", address, threads });
    this.details.threads = await opened;
    this.restart();
  }

  restart() {
    this.worker.postMessage({ type: "restart" });
    this.smoother = new Smoother(this.settings.smoothing);
  }

  /** As of RemoteNetwork. */
  async push(pixels, seconds) {
    const number = this.frames++;
    const smoother = this.smoother; // the stream may be restarted before the scores are there
    const scores = await new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      this.worker.postMessage({ type: "frame", number, pixels }, [pixels.buffer]);
    });
    return { scores, ...smoother.update(scores, seconds) };
  }

  receive(message) {
    switch (message.type) {
      case "opened":
        this.settle("open", message.threads);
        break;
      case "scores":
        this.settle(message.number, message.scores);
        break;
      default:
        this.fail(message.reason);
    }
  }

  settle(key, value) {
    this.waiting.get(key).resolve(value);
    this.waiting.delete(key);
  }

  fail(reason) {
    for (const { reject } of this.waiting.values()) {
      reject(new Error(reason));
    }
    this.waiting.clear();
  }
}
