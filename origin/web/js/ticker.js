// A worker that ticks at a frame rate: a page's own timers slow down in a background tab.
// Not here: what is drawn at each tick (`pattern.js`).
let timer = null;

self.onmessage = ({ data: fps }) => {
  clearTimeout(timer);
  if (!fps) return;
  const began = performance.now();
  let tick = 0;
  const next = () => {
    self.postMessage(tick);
    // From the beginning, not from the last tick, so that lateness does not add up.
    const now = performance.now();
    tick = Math.max(tick + 1, Math.floor(((now - began) * fps) / 1000));
    timer = setTimeout(next, began + (tick * 1000) / fps - now);
  };
  next();
};
