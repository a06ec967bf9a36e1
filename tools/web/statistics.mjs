// How fast the page is: the numbers that it shows, and those of its report.

const RECENT = 60; // frames that the numbers shown are about

/** @returns {number} the value below which a share of the values lie; NaN of none. */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length === 0) {
    return NaN;
  }
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

/** Counts the frames from the start of a source to its end. */
export class Statistics {
  constructor() {
    this.arrivals = []; // of answers, ms
    this.latencies = []; // from a picture to what is known of it, ms
    this.skipped = 0; // pictures that came while the network was busy
    this.counts = {}; // label -> results
  }

  /** @param {number} now when a frame was answered, ms. */
  addFrame(now) {
    this.arrivals.push(now);
  }

  /** Only of frames with a result: a network that needs whole clips has one now and then. */
  addResult(latency, label) {
    this.latencies.push(latency);
    if (label !== null) {
      this.counts[label] = (this.counts[label] ?? 0) + 1;
    }
  }

  /** @returns {number} frames per second of the latest frames; NaN before there are two. */
  recentRate() {
    return rate(this.arrivals.slice(-RECENT));
  }

  /** @returns {number} median latency of the latest frames, ms; NaN of none. */
  recentLatency() {
    return quantile(this.latencies.slice(-RECENT), 0.5);
  }

  /** @returns {object} the report of the whole time. */
  report() {
    return {
      frames: this.arrivals.length,
      seconds: (this.arrivals.at(-1) - this.arrivals[0]) / 1000 || 0,
      rate: rate(this.arrivals) || 0,
      latency: quantile(this.latencies, 0.5) || 0,
      slow_latency: quantile(this.latencies, 0.95) || 0,
      skipped: this.skipped,
      counts: this.counts,
    };
  }
}

function rate(times) {
  if (times.length < 2) {
    return NaN;
  }
  return (1000 * (times.length - 1)) / (times.at(-1) - times[0]);
}
