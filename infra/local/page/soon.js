/**
 * Work gathered into one go per painted frame: a hundred events a second are still sixty updates.
 * A hidden tab paints no frames, so a timer stands in for them.
 */
const AT_LATEST_MS = 200;

/**
 * @param {() => void} work
 * @returns {() => void} call it as often as you like
 */
export function soon(work) {
  let frame = 0;
  let timer = 0;
  const run = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    frame = timer = 0;
    work();
  };
  return () => {
    if (timer !== 0) return;
    frame = requestAnimationFrame(run);
    timer = setTimeout(run, AT_LATEST_MS);
  };
}
