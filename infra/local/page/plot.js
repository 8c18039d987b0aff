/**
 * The delays of the last events as a row of bars, newest at the right, with the median as the water line.
 * Drawn by hand on a canvas: one drawing call per event, no library, no style attributes.
 */
const BAR_PX = 5;
const STEP_PX = 9;
const GLIDE_MS = 260;
const TOP_PX = 14;
const FLOOR_PX = 4;
const AXIS_PX = 56; // room for the scale at the right edge

const stillness = matchMedia("(prefers-reduced-motion: reduce)");
const darkness = matchMedia("(prefers-color-scheme: dark)");

/**
 * The top of the scale: the next 1, 2 or 5 times a power of ten.
 * @param {number} value
 */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  const step = [1, 2, 5, 10].find((factor) => value <= factor * power) ?? 10;
  return step * power;
}

export class Plot {
  #canvas;
  #pen;
  #latencies;
  #width_px = 0;
  #height_px = 0;
  #pushedAt_ms = -GLIDE_MS;
  #frame = 0;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./latency.js").Latencies} latencies
   */
  constructor(canvas, latencies) {
    this.#canvas = canvas;
    this.#pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.#latencies = latencies;
    new ResizeObserver(() => this.#fit()).observe(canvas);
    darkness.addEventListener("change", () => this.#draw());
  }

  /** A value was added: draw, gliding one step to the left. */
  push() {
    this.#pushedAt_ms = performance.now();
    this.#draw();
  }

  #fit() {
    const density = devicePixelRatio || 1;
    this.#width_px = this.#canvas.clientWidth;
    this.#height_px = this.#canvas.clientHeight;
    this.#canvas.width = Math.round(this.#width_px * density);
    this.#canvas.height = Math.round(this.#height_px * density);
    this.#pen.setTransform(density, 0, 0, density, 0, 0);
    this.#paint(performance.now());
  }

  #draw() {
    if (this.#frame === 0) this.#frame = requestAnimationFrame((now_ms) => this.#paint(now_ms));
  }

  /** @param {number} now_ms */
  #paint(now_ms) {
    this.#frame = 0;
    const pen = this.#pen;
    const width = this.#width_px - AXIS_PX;
    const floor = this.#height_px - FLOOR_PX;
    pen.clearRect(0, 0, this.#width_px, this.#height_px);
    if (width <= 0) return;

    const style = getComputedStyle(this.#canvas);
    const [water, line, text, alert] = ["--tide", "--line", "--muted", "--warn"].map((name) =>
      style.getPropertyValue(name),
    );
    const visible = this.#latencies.values_ms.slice(-Math.ceil(width / STEP_PX) - 1);
    const p50 = this.#latencies.quantile_ms(0.5);
    const p95 = this.#latencies.quantile_ms(0.95);
    // Scaled to the p95: one outlier must not flatten everything else. It is cut off at the top, with a mark.
    const top = roundUp(Math.max(10, (p95 ?? 0) * 1.15));
    /** @param {number} value */
    const heightOf = (value) => (Math.min(value, top) / top) * (floor - TOP_PX);

    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.lineWidth = 1;
    for (const mark of [0, top / 2, top]) {
      const y = Math.round(floor - heightOf(mark)) + 0.5;
      this.#rule(width, y, line, []);
      pen.fillStyle = text;
      pen.fillText(mark === 0 ? "0" : `${mark.toLocaleString("en")} ms`, width + 8, mark === 0 ? y - 5 : y);
    }

    const age = Math.min(1, (now_ms - this.#pushedAt_ms) / GLIDE_MS);
    const glide = stillness.matches ? 1 : 1 - (1 - age) ** 3;
    visible.forEach((value, index) => {
      const fromNewest = visible.length - 1 - index;
      const x = width - BAR_PX - (fromNewest + glide - 1) * STEP_PX;
      if (x < 0 || x > width) return;
      const height = Math.max(3, heightOf(value));
      pen.globalAlpha = 0.35 + 0.65 * (x / width); // older ones ebb away
      pen.fillStyle = water;
      pen.beginPath();
      pen.roundRect(x, floor - height, BAR_PX, height, [2.5, 2.5, 0, 0]);
      pen.fill();
      if (value > top) {
        pen.fillStyle = alert;
        pen.fillRect(x, floor - height - 5, BAR_PX, 3);
      }
    });
    pen.globalAlpha = 1;

    if (p50 !== null) this.#rule(width, Math.round(floor - heightOf(p50)) + 0.5, water, []);
    if (p95 !== null) this.#rule(width, Math.round(floor - heightOf(p95)) + 0.5, water, [3, 4]);
    if (glide < 1) this.#draw();
  }

  /**
   * @param {number} width
   * @param {number} y
   * @param {string} colour
   * @param {number[]} dashes
   */
  #rule(width, y, colour, dashes) {
    this.#pen.strokeStyle = colour;
    this.#pen.setLineDash(dashes);
    this.#pen.beginPath();
    this.#pen.moveTo(0, y);
    this.#pen.lineTo(width, y);
    this.#pen.stroke();
    this.#pen.setLineDash([]);
  }
}
