// Keeps the last picture of a video in sight while the video has nothing to show.
// Not here: when (`whep.js`).

export class Hold {
  #video;
  #canvas = document.createElement('canvas');

  constructor(video) {
    this.#video = video;
    this.#canvas.className = 'held';
    this.#canvas.hidden = true;
    this.#canvas.setAttribute('aria-hidden', 'true');
    video.after(this.#canvas);
  }

  get held() {
    return !this.#canvas.hidden;
  }

  /** Takes the picture that the video shows. Too late once its tracks have ended: then it is black. */
  take() {
    const { videoWidth: width, videoHeight: height, readyState } = this.#video;
    if (width === 0 || readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#canvas.getContext('2d').drawImage(this.#video, 0, 0, width, height);
    this.#canvas.hidden = false;
  }

  drop() {
    this.#canvas.hidden = true;
  }
}
