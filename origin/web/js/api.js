// Talks to the node: the JSON API, errors in words, stream names.
// Not here: WebRTC signalling (`webrtc.js`).

const SEGMENT = /^[A-Za-z0-9._~-]{1,64}$/;

/** Whether the node would take this as a stream's name. */
export function validName(name) {
  const segments = name.split('/');
  return segments.length <= 8
    && segments.every((segment) => SEGMENT.test(segment) && !['.', '..', '-'].includes(segment));
}

/** The stream that a page's path names, as in `/play/auction/lot-7`. */
export function streamOfPage(page) {
  return decodeURI(window.location.pathname).slice(`/${page}/`.length).replace(/\/$/, '');
}

/** An answer of the node that is not a success. */
export class NodeError extends Error {
  constructor(status, slug, message, retryAfter) {
    super(message);
    this.status = status;
    this.slug = slug;
    /** Seconds to wait before another try, where the node said so. */
    this.retryAfter = retryAfter;
  }
}

const WORDS = {
  'stream-not-found': 'The stream is not live.',
  'invalid-stream-name': 'That is not a valid stream name.',
  'stream-busy': 'Someone else is publishing under this name.',
};

const BY_STATUS = {
  401: 'This stream asks for a token.',
  403: 'This is not allowed from here.',
  404: 'The stream is not live.',
  409: 'Someone else is publishing under this name.',
  415: 'The node does not take this kind of request.',
  429: 'Too many requests: try again in a moment.',
  503: 'The node cannot take more at the moment.',
};

/** Turns a failed response into an error that a person understands. */
export async function problem(response) {
  let body = {};
  if ((response.headers.get('content-type') ?? '').includes('json')) {
    body = await response.json().catch(() => ({}));
  }
  const slug = String(body.type ?? '').split(/[/:#]/).pop();
  const words = WORDS[slug] ?? body.title ?? BY_STATUS[response.status]
    ?? `The node answered ${response.status}.`;
  const detail = body.detail && body.detail !== words ? ` ${body.detail}` : '';
  const after = Number.parseFloat(response.headers.get('retry-after') ?? '');
  const retryAfter = Number.isFinite(after) ? Math.min(Math.max(after, 0), 60) : null;
  return new NodeError(response.status, slug, `${words}${detail}`, retryAfter);
}

/** `fetch` whose failures read well: the node's problem, or that it cannot be reached. */
export async function request(url, options = {}) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new NodeError(0, 'unreachable', 'The node cannot be reached.', null);
  }
  if (!response.ok) throw await problem(response);
  return response;
}

/** GETs JSON. */
export async function json(path) {
  const response = await request(path, { headers: { accept: 'application/json' }, cache: 'no-store' });
  return response.json();
}

/** Carries a page's `?token=` on to the node's routes. */
export function withToken(path, query = {}) {
  const url = new URL(path, window.location.href);
  const token = new URLSearchParams(window.location.search).get('token');
  if (token) url.searchParams.set('token', token);
  for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
  return url.href;
}
