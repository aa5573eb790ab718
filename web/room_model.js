// The room as this page knows it: the state that came with the join, and what events made of it.
// Plain values, no sockets and no elements: it runs in tests without a browser.

/** Recordings in these states are being taken now. */
export const LIVE = ['starting', 'recording', 'paused'];

export class RoomModel {
  name = '';
  hasPin = false;
  selfId = null;
  /** By id, in the order they came. */
  participants = new Map();
  /** By id. */
  recordings = new Map();
  /** Receivers elsewhere that are sent the mix, by id. */
  outputs = new Map();
  /** What recordings show, as the verb `layout` takes it. */
  layout = null;
  /** On the mix: `[{ name, params }]`. A participant's are his own. */
  effects = [];
  /** Ids of those who speak now. */
  speaking = new Set();
  /** Ids of pictures that our network does not bear at the moment. */
  pausedTracks = new Set();

  /** Takes the state that came with a `join`; what was known before is forgotten. */
  reset(room, selfId) {
    this.name = room.name;
    this.hasPin = room.has_pin;
    this.selfId = selfId;
    this.participants = new Map(room.participants.map((one) => [one.id, one]));
    this.recordings = new Map(room.recordings.map((one) => [one.id, one]));
    this.outputs = new Map((room.outputs ?? []).map((one) => [one.id, one]));
    this.layout = room.layout;
    this.effects = room.effects ?? [];
    this.speaking = new Set();
    this.pausedTracks = new Set();
  }

  get self() {
    return this.participants.get(this.selfId);
  }

  get others() {
    return [...this.participants.values()].filter(({ id }) => id !== this.selfId);
  }

  get isModerator() {
    return this.self?.role === 'moderator';
  }

  /** The oldest recording that is being taken, if any. */
  get liveRecording() {
    return [...this.recordings.values()].find(({ state }) => LIVE.includes(state)) ?? null;
  }

  /** The room's mix goes out to somebody elsewhere at this moment. */
  get isSentOn() {
    return [...this.outputs.values()].some(({ state }) => state === 'live');
  }

  /** Applies an event; false if it does not concern the room's state. */
  apply(event) {
    const change = CHANGES[event.type];
    if (!change) return false;
    change(this, event);
    return true;
  }

  /** What effects are put on, as the drawer names it: a participant's id, `mix`, or `track:` and a track's id. */
  effectsOf(of) {
    if (of === 'mix') return this.effects;
    const track = trackOf(of);
    return (track ? this.findTrack(track)?.track.effects : this.participants.get(of)?.effects) ?? [];
  }

  /** The published track of that id, and whose it is. */
  findTrack(id) {
    for (const participant of this.participants.values()) {
      const track = participant.tracks.find((one) => one.id === id);
      if (track) return { participant, track };
    }
    return null;
  }
}

/** The track's id in `track:…`; null of anything else. */
export function trackOf(of) {
  return of?.startsWith('track:') ? of.slice('track:'.length) : null;
}

const CHANGES = {
  'participant-joined': (model, { participant }) => model.participants.set(participant.id, participant),
  'participant-updated': (model, { participant }) => {
    // Not of somebody who has left: he would stay for ever.
    if (model.participants.has(participant.id)) model.participants.set(participant.id, participant);
  },
  'participant-left': (model, { participant }) => {
    for (const { id } of model.participants.get(participant)?.tracks ?? []) model.pausedTracks.delete(id);
    model.participants.delete(participant);
    model.speaking.delete(participant);
  },
  'track-published': putTrack,
  'track-updated': putTrack,
  'track-unpublished': (model, { participant, track }) => {
    changeTracks(model, participant, (tracks) => tracks.filter(({ id }) => id !== track));
    model.pausedTracks.delete(track);
  },
  speaking: (model, { levels }) => {
    for (const { participant, speaking } of levels) {
      if (speaking && model.participants.has(participant)) model.speaking.add(participant);
      else model.speaking.delete(participant);
    }
  },
  'track-paused': (model, { track, paused }) => {
    if (paused) model.pausedTracks.add(track);
    else model.pausedTracks.delete(track);
  },
  layout: (model, { layout }) => { model.layout = layout; },
  effects: (model, { effects }) => { model.effects = effects; },
  // That they are off comes with the participant.
  'effects-failed': () => {},
  recording: (model, { recording }) => model.recordings.set(recording.id, recording),
  output: (model, { output }) => model.outputs.set(output.id, output),
  'output-removed': (model, { output }) => model.outputs.delete(output),
};

/** Milliseconds that are in the file of a recording that is being taken; `nowMs` is the server's time. */
export function recordedMs({ started_at: started, paused_at: pausedAt, paused_ms: paused }, nowMs) {
  return Math.max(0, (pausedAt ? Date.parse(pausedAt) : nowMs) - Date.parse(started) - paused);
}

function putTrack(model, { participant, track }) {
  changeTracks(model, participant, (tracks) => {
    const place = tracks.findIndex(({ id }) => id === track.id);
    return place < 0 ? [...tracks, track] : tracks.map((one) => (one.id === track.id ? track : one));
  });
}

function changeTracks(model, id, change) {
  const participant = model.participants.get(id);
  if (participant) model.participants.set(id, { ...participant, tracks: change(participant.tracks) });
}

/**
 * The tiles of a room, in order: `[{ key, participant, source, tracks }]`. Everybody who may publish has one
 * for his camera, whether it is on or not; each screen, and each further picture, has its own. Sound goes
 * with the picture of its connection, so that both play in sync. Oneself comes last.
 */
export function tilesOf(model) {
  const everyone = [...model.others, ...(model.self ? [model.self] : [])];
  return everyone.flatMap((participant) => tilesOfOne(participant));
}

function tilesOfOne(participant) {
  const connections = new Map();
  for (const track of participant.tracks) {
    connections.set(track.connection, [...(connections.get(track.connection) ?? []), track]);
  }
  const tiles = [];
  let leftover = [];
  for (const [connection, tracks] of connections) {
    const screen = tracks.some(({ source, kind }) => source === 'screen' && kind === 'video');
    const picture = tracks.some(({ kind }) => kind === 'video');
    if (!picture) leftover = [...leftover, ...tracks];
    else tiles.push({ key: `${participant.id}/${connection}`, participant, source: screen ? 'screen' : 'camera', tracks });
  }
  let camera = tiles.find(({ source }) => source === 'camera');
  if (!camera && (leftover.length || participant.role !== 'viewer')) {
    camera = { participant, source: 'camera', tracks: [] };
    tiles.push(camera);
  }
  if (camera) {
    // One key for the first camera, whichever connection brings it: the tile stays in its place when a
    // publication is made anew.
    camera.key = `${participant.id}/camera`;
    camera.tracks = [...camera.tracks, ...leftover];
  }
  return tiles;
}
