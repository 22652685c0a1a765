// Small pieces of interface that pages share: elements, numbers in words, spark lines, lists of
// figures.
// Not here: anything about streams.

/** Makes an element: attributes by name, text or further elements inside. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function bitrate(bits) {
  if (!Number.isFinite(bits)) return '–';
  if (bits >= 999_500) return `${(bits / 1e6).toFixed(2)} Mb/s`;
  return `${Math.round(bits / 1000)} kb/s`;
}

export function milliseconds(value) {
  if (!Number.isFinite(value)) return '–';
  return Math.abs(value) >= 9999.5 ? `${(value / 1000).toFixed(1)} s` : `${Math.round(value)} ms`;
}

export function number(value, digits = 0, unit = '') {
  return Number.isFinite(value) ? `${value.toFixed(digits)}${unit}` : '–';
}

/** How long something has lasted: `4 s`, `12 min`, `3 h 05 min`. */
export function lasted(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return '–';
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** Shows pairs of [name, value] in a `dl`, touching only what changed. */
export function showStats(list, pairs) {
  const shape = pairs.map(([name]) => name).join('\n');
  if (list.dataset.shape !== shape) {
    list.dataset.shape = shape;
    list.replaceChildren(...pairs.map(([name]) =>
      element('div', {}, element('dt', {}, name), element('dd', {}, '–'))));
  }
  const values = list.querySelectorAll('dd');
  pairs.forEach(([, value], i) => {
    if (values[i].textContent !== value) values[i].textContent = value;
  });
}

/** A pill's text and mood: '', 'good', 'busy' or 'bad'. */
export function showPill(pill, text, mood = '') {
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${mood}`.trim();
}

/** Shows a note, or hides it where there is nothing to say. */
export function showNote(note, text, mood = 'bad') {
  note.hidden = !text;
  if (note.textContent !== (text ?? '')) note.textContent = text ?? '';
  note.className = `note ${mood}`;
}

const SPARK_POINTS = 120;

/** A line over the newest values, scaled from zero to a little above the largest. */
export class Spark {
  constructor(svg) {
    this.values = [];
    const space = 'http://www.w3.org/2000/svg';
    this.area = document.createElementNS(space, 'path');
    this.line = document.createElementNS(space, 'path');
    this.area.setAttribute('class', 'area');
    svg.setAttribute('viewBox', `0 0 ${SPARK_POINTS - 1} 100`);
    svg.replaceChildren(this.area, this.line);
  }

  add(value) {
    this.values.push(Number.isFinite(value) ? Math.max(value, 0) : null);
    if (this.values.length > SPARK_POINTS) this.values.shift();
    const top = Math.max(...this.values.map((one) => one ?? 0)) * 1.15 || 1;
    const offset = SPARK_POINTS - this.values.length;
    let line = '';
    let first = null;
    let last = null;
    this.values.forEach((one, i) => {
      if (one === null) return;
      const x = offset + i;
      line += `${line === '' ? 'M' : 'L'}${x} ${(98 - (one / top) * 94).toFixed(1)}`;
      first ??= x;
      last = x;
    });
    this.line.setAttribute('d', line);
    this.area.setAttribute('d', line === '' ? '' : `${line}L${last} 100L${first} 100Z`);
  }

  clear() {
    this.values = [];
    this.line.removeAttribute('d');
    this.area.removeAttribute('d');
  }
}

/** Copies by way of a field: pages that are neither https nor of this machine have no clipboard. */
function copyFromField(text) {
  const field = element('textarea', { readonly: '', 'aria-hidden': 'true', class: 'skip' });
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand('copy');
  field.remove();
  return copied;
}

/** Puts text on the clipboard and says so on the button for a moment. */
export async function copy(text, button) {
  const label = button.dataset.label ??= button.textContent;
  let copied;
  try {
    await navigator.clipboard.writeText(text);
    copied = true;
  } catch {
    copied = copyFromField(text);
    button.focus();
  }
  button.textContent = copied ? 'Copied' : 'Not allowed';
  setTimeout(() => { button.textContent = label; }, 1500);
}
