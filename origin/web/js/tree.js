// Draws the tree in which a stream goes to all nodes: a row a node, under the node that it takes
// the stream from.
// Not here: planning it (the node does), asking for it (`overview.js`).

const SPACE = 'http://www.w3.org/2000/svg';
const ROW = 30;
const INDENT = 18;
const DOT = 5;
/** Of more children without children of their own, some stand for all. */
const CHILDREN_SHOWN = 6;

function shape(name, attributes, text) {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The rows of the picture, from top to bottom: nodes, and how many are left out. */
export function rowsOf(tree) {
  const children = new Map();
  for (const node of tree.nodes) {
    if (node.parent === null) continue;
    if (!children.has(node.parent)) children.set(node.parent, []);
    children.get(node.parent).push(node);
  }
  const rows = [];
  const add = (node, parentRow, level) => {
    const row = rows.length;
    rows.push({ node, parentRow, level });
    const below = children.get(node.id) ?? [];
    children.delete(node.id);
    // The node that answers is always shown: it knows its own hops.
    const shown = (one) => one.children > 0 || one.id === tree.this;
    const idle = below.filter((one) => !shown(one));
    const some = idle.length > CHILDREN_SHOWN + 1 ? idle.slice(0, CHILDREN_SHOWN) : idle;
    for (const one of below) {
      if (shown(one) || some.includes(one)) add(one, row, level + 1);
    }
    const left = idle.length - some.length;
    if (left > 0) rows.push({ left, parentRow: row, level: level + 1 });
  };
  for (const node of tree.nodes) if (node.parent === null) add(node, null, 0);
  return rows;
}

function noteOf(node, names) {
  const words = [node.reason];
  if (node.second !== null) words.push(`else from ${names.get(node.second) ?? node.second}`);
  return words.join('; ');
}

/** What is measured of a node's hop, in few words. */
function measuredOf(node, figures) {
  return (figures?.get(node.id) ?? []).join(' · ');
}

/**
 * The picture, `width` CSS pixels wide. `figures` has by node what the answering node measures of
 * its hops, in words.
 */
export function treePicture(tree, width, figures) {
  const rows = rowsOf(tree);
  const names = new Map(tree.nodes.map((node) => [node.id, node.name]));
  const height = rows.length * ROW;
  const svg = shape('svg', {
    class: 'tree', viewBox: `0 0 ${width} ${height}`, width, height, role: 'img',
    'aria-label': `${tree.nodes.length} nodes take ${tree.stream}, over ${tree.depth} hops at most`,
  });
  const middle = (row) => row * ROW + ROW / 2;
  const left = (level) => DOT + 2 + level * INDENT;
  rows.forEach(({ node, parentRow, level, left: more }, row) => {
    const [x, y] = [left(level), middle(row)];
    if (parentRow !== null) {
      const from = left(level - 1);
      svg.append(shape('path', { class: 'edge', d: `M${from} ${middle(parentRow) + DOT}V${y}H${x - DOT}` }));
    }
    const group = shape('g', { class: `node ${node?.place ?? 'more'} ${node?.state ?? ''}`.trim() });
    if (node) {
      group.append(shape('title', {}, noteOf(node, names)));
      if (node.id === tree.this) group.append(shape('circle', { class: 'this', cx: x, cy: y, r: DOT + 3 }));
      group.append(shape('circle', { cx: x, cy: y, r: DOT }));
      const text = shape('text', { x: x + 14, y: y + 4 }, node.name);
      text.append(shape('tspan', { class: 'muted', dx: 6 }, node.region));
      if (node.state !== 'up') text.append(shape('tspan', { class: 'warn', dx: 6 }, node.state));
      const measured = measuredOf(node, figures);
      if (measured) text.append(shape('tspan', { class: 'muted', dx: 6 }, measured));
      group.append(text);
    } else {
      group.append(shape('text', { class: 'muted', x, y: y + 4 }, `and ${more} more`));
    }
    svg.append(group);
  });
  return svg;
}
