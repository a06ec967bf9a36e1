// From the scores of single frames to one class at a time: the rule of Smoother in
// ops/streaming/smoothing.py, which explains it. A test compares both.

const TOLERANCE = 1e-6; // seconds; less than any frame lasts

export class Smoother {
  /**
   * @param {object} settings tau, hold (seconds), on, off (probabilities), idle (labels) and
   *   multi_label.
   */
  constructor(settings) {
    this.settings = settings;
    this.label = null;
    this.mean = null; // of the scores
    this.last = 0; // time of the scores before, in seconds
    this.candidate = null; // the class that may be seen next
    this.heldSince = 0; // since when its hold counts, in seconds
  }

  /**
   * @param {ArrayLike<number>} scores logits of the classes.
   * @param {number} seconds time of the frame, not less than that of the one before.
   * @returns {{probabilities: number[], label: number | null}} smoothed.
   */
  update(scores, seconds) {
    const previous = this.mean === null ? seconds : this.last;
    this.average(scores, seconds - previous);
    const probabilities = this.probabilities();
    this.label = this.decide(probabilities, seconds, previous);
    this.last = seconds;
    return { probabilities, label: this.label };
  }

  average(scores, elapsed) {
    const { tau } = this.settings;
    if (this.mean === null || tau === 0) {
      this.mean = Array.from(scores);
      return;
    }
    const share = 1 - Math.exp(-Math.max(0, elapsed) / tau);
    this.mean = this.mean.map((value, label) => value + share * (scores[label] - value));
  }

  probabilities() {
    if (this.settings.multi_label) {
      return this.mean.map((value) => 1 / (1 + Math.exp(-value)));
    }
    const highest = Math.max(...this.mean);
    const powers = this.mean.map((value) => Math.exp(value - highest));
    const sum = powers.reduce((total, power) => total + power);
    return powers.map((power) => power / sum);
  }

  decide(probabilities, seconds, previous) {
    const { on, off, hold, idle } = this.settings;
    const active = [...probabilities];
    for (const label of idle) {
      active[label] = 0;
    }
    const best = active.indexOf(Math.max(...active));
    let seen = this.label;
    if (seen !== null && active[seen] < off) {
      seen = null;
    }
    if (active[best] < on || best === seen) {
      this.candidate = null;
      return seen;
    }
    if (best !== this.candidate) {
      this.candidate = best;
      this.heldSince = previous;
    }
    if (seconds - this.heldSince < hold - TOLERANCE) {
      return seen;
    }
    this.candidate = null;
    return best;
  }
}
