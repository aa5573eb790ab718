// Pictures of effects on somebody's live picture: those that are seen are asked for one after the other, each again and
// again while it is seen. Until one is there, and where there can be none, the effect's own picture stays.

// A card's picture is this old before another is asked for.
const EVERY_MS = 2_000;
// After an answer the server may do something else.
const PAUSE_MS = 100;
// Somebody else is served, or the server is busy.
const BUSY_MS = 500;
// There is no such picture now; perhaps later. The others wait a little: it may be the track that has none.
const FAILED_MS = 10_000;

/** `ask(name)` gives a Blob, throws what the server says, or is null: there is nothing to show it on. */
export function livePictures(ask) {
  const pictures = new Map();
  /** What is seen: `img` by the effect's name. */
  const seen = new Map();
  /** All that was given to `watch`. */
  let watched = [];
  let of = null;
  let timer = null;
  let isBusy = false;
  let restsUntil = 0;
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const name = target.dataset.live;
      if (isIntersecting) seen.set(name, target);
      else if (seen.get(name) === target) seen.delete(name);
    }
    wake();
  });

  // Of what is seen, the one whose turn it is, and when.
  function next() {
    const turns = [...seen].filter(([, image]) => image.isConnected).map(([name]) => [name, pictures.get(name)?.due ?? 0]);
    return turns.sort(([, a], [, b]) => a - b)[0];
  }

  function rest(ms) {
    restsUntil = performance.now() + ms;
    wake();
  }

  function wake() {
    clearTimeout(timer);
    timer = null;
    const turn = of !== null && !isBusy && next();
    if (turn) timer = setTimeout(() => take(turn[0]), Math.max(restsUntil, turn[1]) - performance.now());
  }

  async function take(name) {
    const whom = of;
    if (document.hidden) return rest(EVERY_MS);
    isBusy = true;
    let pause = PAUSE_MS;
    try {
      const blob = await ask(name);
      if (whom === of) show(name, blob, blob ? EVERY_MS : FAILED_MS);
    } catch (error) {
      if (error.code === 'too_fast') pause = BUSY_MS;
      else if (whom === of) {
        show(name, null, FAILED_MS);
        if (error.code === 'no_preview') pause = EVERY_MS;
      }
    }
    isBusy = false;
    rest(pause);
  }

  function show(name, blob, again) {
    const { url: old } = pictures.get(name) ?? {};
    const url = blob && URL.createObjectURL(blob);
    pictures.set(name, { url, due: performance.now() + again });
    const image = seen.get(name);
    if (image) put(image, url);
    if (old) URL.revokeObjectURL(old);
  }

  function put(image, url) {
    image.src = url ?? image.dataset.still;
    image.classList.toggle('live', Boolean(url));
  }

  function forget() {
    for (const { url } of pictures.values()) if (url) URL.revokeObjectURL(url);
    pictures.clear();
    for (const image of watched) put(image, null);
  }

  return {
    /** Has an `img` show the effect, from now on; what was watched before is let go. */
    watch(images) {
      observer.disconnect();
      seen.clear();
      watched = images.map(([, image]) => image);
      for (const [name, image] of images) {
        Object.assign(image.dataset, { live: name, still: image.src });
        const known = pictures.get(name)?.url;
        if (known) put(image, known);
        observer.observe(image);
      }
    },
    /** Of whom; null: of nobody, for now. */
    show(next) {
      if (of === next) return;
      of = next;
      restsUntil = 0;
      forget();
      wake();
    },
  };
}
