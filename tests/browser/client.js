// A participant without a face: speaks docs/protocol/native.md from inside a page, publishes a
// picture and a sound that can be recognised, and measures what it receives. Injected by
// browser.mjs, which calls the methods of `window.salon` from Node.

(() => {
    const LIMIT_MS = 15_000;

    class Waiters {
        #waiting = new Set();
        #past = [];

        push(message) {
            this.#past.push(message);
            for (const one of [...this.#waiting]) {
                if (one.matches(message)) {
                    this.#waiting.delete(one);
                    one.resolve(message);
                }
            }
        }

        // The first message, past or to come, whose fields equal those of `wanted`.
        find(wanted, limitMs) {
            const matches = (message) => contains(message, wanted);
            const past = this.#past.find(matches);
            if (past) return Promise.resolve(past);
            return new Promise((resolve, reject) => {
                const one = { matches, resolve };
                this.#waiting.add(one);
                setTimeout(() => {
                    if (this.#waiting.delete(one)) {
                        const seen = this.#past.map((message) => message.type).join(', ');
                        reject(new Error(`no ${JSON.stringify(wanted)} within ${limitMs} ms; seen: ${seen}`));
                    }
                }, limitMs);
            });
        }

        list(type) {
            return this.#past.filter((message) => !type || message.type === type);
        }
    }

    function contains(actual, wanted) {
        if (wanted === null || typeof wanted !== 'object') return actual === wanted;
        return actual !== null && typeof actual === 'object'
            && Object.entries(wanted).every(([key, value]) => contains(actual[key], value));
    }

    class Salon {
        events = new Waiters();
        publications = new Map(); // connection name → {pc, picture, sound}
        subscriptions = new Map(); // connection name → {pc, participant, streams by source}
        #answers = new Map();
        #candidates = new Map(); // connection name → candidates that came before their description
        #nextId = 1;
        #notes = new Map(); // participant → what observe() noted
        #iceTransportPolicy;

        async connect(url, { iceTransportPolicy = 'all' } = {}) {
            this.#iceTransportPolicy = iceTransportPolicy;
            this.socket = new WebSocket(url);
            this.socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
            this.socket.onclose = ({ code, reason }) => this.events.push({ type: 'socket-closed', code, reason });
            await new Promise((resolve, reject) => {
                this.socket.onopen = resolve;
                this.socket.onerror = () => reject(new Error(`cannot open ${url}`));
            });
        }

        // Sends a verb and waits for its answer; an `error` answer is a rejection that names its code.
        request(type, fields = {}) {
            const id = this.#nextId++;
            this.socket.send(JSON.stringify({ id, type, ...fields }));
            return new Promise((resolve, reject) => {
                this.#answers.set(id, { resolve, reject, type });
                setTimeout(() => {
                    if (this.#answers.delete(id)) reject(new Error(`${type}: no answer within ${LIMIT_MS} ms`));
                }, LIMIT_MS);
            });
        }

        waitFor(wanted, limitMs = LIMIT_MS) {
            return this.events.find(wanted, limitMs);
        }

        async join(room, name, fields = {}) {
            const joined = await this.request('join', { room, name, ...fields });
            this.me = joined.participant;
            this.access = joined.access;
            this.resume = joined.resume;
            this.iceServers = joined.ice_servers ?? [];
            return joined;
        }

        // video: {colour, width, height, fps, detail} or null; audio: {tone, beep} or null. `without`:
        // `transport-cc` keeps that from the server. `layers`: the encodings of the picture (simulcast).
        async publish({ connection = 'main', video, audio, codec, source, without, layers } = {}) {
            const pc = this.#peer(connection);
            const parts = { pc, codec };
            if (audio) {
                parts.sound = new Sound(audio);
                pc.addTransceiver(parts.sound.track, { direction: 'sendonly' });
            }
            if (video) {
                parts.picture = new Picture(video, parts.sound);
                const transceiver = pc.addTransceiver(parts.picture.track, { direction: 'sendonly', ...(layers && { sendEncodings: layers }) });
                if (codec) preferCodec(transceiver, codec);
            }
            this.publications.set(connection, parts);
            await pc.setLocalDescription();
            const tracks = pc.getTransceivers().map((transceiver) => ({
                mid: transceiver.mid,
                ...(source && { source: transceiver.sender.track.kind === 'video' ? source : 'other' }),
            }));
            const { sdp } = pc.localDescription;
            const answer = await this.request('publish', { connection, sdp: without === 'transport-cc' ? withoutTransportCc(sdp) : sdp, tracks });
            await pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
            await this.#flushCandidates(connection, pc);
            return answer.tracks;
        }

        // Has what is published look for other paths.
        async restartIce(connection) {
            const { pc } = this.publications.get(connection);
            const offer = await pc.createOffer({ iceRestart: true });
            const { sdp } = await this.request('restart', { connection, sdp: offer.sdp });
            await pc.setLocalDescription(offer);
            await pc.setRemoteDescription({ type: 'answer', sdp });
        }

        async unpublish(connection = 'main') {
            await this.request('unpublish', { connection });
            const { pc, picture, sound } = this.publications.get(connection);
            this.publications.delete(connection);
            picture?.stop();
            sound?.stop();
            pc.close();
        }

        // Stops or starts a layer, as a browser itself does when the network changes.
        async setLayer(connection, rid, active) {
            const sender = this.publications.get(connection).pc.getSenders().find(({ track }) => track.kind === 'video');
            const parameters = sender.getParameters();
            parameters.encodings.find((one) => one.rid === rid).active = active;
            await sender.setParameters(parameters);
        }

        subscribeAll() {
            return this.request('subscribe', { all: true });
        }

        // Changes the size of what is published, as a camera that is switched to another mode does.
        resize(connection, width, height) {
            this.publications.get(connection).picture.resize(width, height);
        }

        // Lets a publication's sound fall silent, or sound again; its beeps go on.
        setTone(connection, on) {
            this.publications.get(connection).sound.setTone(on);
        }

        // What was sent last: the counter in the picture (tenths of a second since it began).
        counter(connection = 'main') {
            return this.publications.get(connection).picture.counter();
        }

        // The flashes of a publication so far: what its counter showed, and by how many seconds each was
        // drawn after its beep had begun.
        drawnFlashes(connection = 'main') {
            return this.publications.get(connection).picture.flashes;
        }

        // A stream of a picture and a sound, for those who publish it in another way.
        stream(video, audio) {
            const sound = new Sound(audio);
            return new MediaStream([sound.track, new Picture(video, sound).track]);
        }

        // What another shows in a video element is what a participant of that name shows.
        watch(name, video) {
            const [audio] = video.srcObject.getAudioTracks();
            const received = new Map([['camera', { video }], ...(audio ? [['microphone', hearSound(audio)]] : [])]);
            this.subscriptions.set(name, { participant: name, received });
        }

        // The picture of a participant as it is shown now: size, frames shown, colours at the named
        // places (fractions of width and height), and the counter that is drawn in it.
        look(participant, source = 'camera') {
            const video = this.#received(participant, source)?.video;
            if (!video || !video.videoWidth) return null;
            const { videoWidth: width, videoHeight: height } = video;
            const canvas = new OffscreenCanvas(width, height);
            const context = canvas.getContext('2d', { willReadFrequently: true });
            context.drawImage(video, 0, 0);
            const { data } = context.getImageData(0, 0, width, height);
            const at = (x, y) => meanColour(data, width, Math.round(x * width), Math.round(y * height), 3);
            return {
                width, height,
                frames: video.getVideoPlaybackQuality().totalVideoFrames,
                colour: at(0.9, 0.9),
                counter: readCounter(at),
            };
        }

        // Loudness (dB) of each frequency in a participant's sound, and of the loudest other one.
        listen(participant, frequencies, source = 'microphone') {
            const analyser = this.#received(participant, source)?.analyser;
            if (!analyser) return null;
            const bins = new Float32Array(analyser.frequencyBinCount);
            analyser.getFloatFrequencyData(bins);
            const width = analyser.context.sampleRate / analyser.fftSize;
            const near = (frequency) => Math.max(...bins.slice(...[-2, 3].map((d) => Math.round(frequency / width) + d)));
            const others = bins.filter((_, bin) => bin * width > 200 && bin * width < 6_000
                && frequencies.every((frequency) => Math.abs(bin * width - frequency) > 120));
            return { levels: frequencies.map(near), other: Math.max(...others) };
        }

        // Notes from now on when which of the frequencies sounds how loudly in a participant's sound, every 10 ms, and
        // when which of his pictures is shown: whether its patch is lit.
        async observe(participant, frequencies) {
            const [{ audio, analyser }, { video }] = [this.#received(participant, 'microphone'), this.#received(participant, 'camera')];
            const { context } = analyser;
            await context.audioWorklet.addModule(URL.createObjectURL(new Blob([`(${defineEar})()`], { type: 'text/javascript' })));
            const ear = new AudioWorkletNode(context, 'ear', { numberOfOutputs: 0, processorOptions: { frequencies } });
            context.createMediaStreamSource(audio.srcObject).connect(ear);
            const notes = { sound: [], frames: [] };
            ear.port.onmessage = ({ data }) => {
                const { contextTime, performanceTime } = context.getOutputTimestamp();
                notes.sound.push(...data.map(({ time, levels }) => [performanceTime + 1000 * (time - contextTime), ...levels]));
            };
            const canvas = new OffscreenCanvas(8, 8);
            const pencil = canvas.getContext('2d', { willReadFrequently: true });
            const look = (_, { expectedDisplayTime }) => {
                const { videoWidth: width, videoHeight: height } = video;
                pencil.drawImage(video, 0.4 * width, 0.15 * height, 0.2 * width, 0.1 * height, 0, 0, 8, 8);
                notes.frames.push([expectedDisplayTime, pencil.getImageData(4, 4, 1, 1).data[1] > 127]);
                video.requestVideoFrameCallback(look);
            };
            video.requestVideoFrameCallback(look);
            this.#notes.set(participant, notes);
        }

        // What was noted since this was asked last.
        observed(participant) {
            const notes = this.#notes.get(participant);
            return { sound: notes.sound.splice(0), frames: notes.frames.splice(0) };
        }

        // getStats of a publication, or of a participant's subscriptions, as plain objects.
        async stats({ connection, participant }) {
            const peers = connection
                ? [this.publications.get(connection)]
                : [...this.subscriptions.values()].filter((one) => one.participant === participant);
            const reports = [];
            for (const { pc } of peers) reports.push(...(await pc.getStats()).values());
            return reports.map((report) => ({ ...report }));
        }

        // For the message of a test that failed: what came, and how each connection stands.
        async summary() {
            const events = this.events.list().map(({ type, connection, state, error, code }) => [type, connection, state ?? error ?? code].filter(Boolean).join(' '));
            const peers = [];
            for (const [name, { pc }] of [...this.publications, ...this.subscriptions]) {
                const rtp = [...(await pc.getStats()).values()].filter(({ type }) => /bound-rtp$/.test(type))
                    .map(({ type, kind, packetsReceived, packetsSent, framesDecoded, framesEncoded, keyFramesDecoded, pliCount, nackCount }) =>
                        ({ type, kind, packetsReceived, packetsSent, framesDecoded, framesEncoded, keyFramesDecoded, pliCount, nackCount }));
                peers.push({ name, connection: pc.connectionState, ice: pc.iceConnectionState, signalling: pc.signalingState, rtp });
            }
            return { events, peers };
        }

        eventsOfType(type) {
            return this.events.list(type);
        }

        leave() {
            return this.request('leave');
        }

        #take(message) {
            if (message.id !== undefined && this.#answers.has(message.id)) {
                const { resolve, reject, type } = this.#answers.get(message.id);
                this.#answers.delete(message.id);
                if (message.type === 'ok') resolve(message);
                else reject(new Error(`${type}: ${message.code}: ${message.message}`));
                return;
            }
            this.events.push({ ...message, at: performance.now() });
            if (message.type === 'offer') this.#answer(message).catch((error) => this.events.push({ type: 'client-error', error: String(error) }));
            if (message.type === 'candidate') this.#addCandidate(message);
            if (message.type === 'connection-closed') this.#drop(message.connection);
        }

        // The mix is kept as what a participant of that name shows.
        async #answer({ connection, participant, mix, sdp, tracks }) {
            const known = this.subscriptions.get(connection)?.pc;
            if (known) {
                await known.setRemoteDescription({ type: 'offer', sdp });
                await known.setLocalDescription();
                return void await this.request('answer', { connection, sdp: known.localDescription.sdp });
            }
            const pc = this.#peer(connection);
            const received = new Map();
            this.subscriptions.set(connection, { pc, participant: mix ? 'mix' : participant, received });
            pc.ontrack = ({ track, transceiver }) => {
                const told = tracks.find((one) => one.mid === transceiver.mid);
                const mixed = { video: 'camera', audio: 'microphone' };
                if (told) received.set(mix ? mixed[told.kind] : told.source, track.kind === 'video' ? showPicture(track) : hearSound(track));
            };
            await pc.setRemoteDescription({ type: 'offer', sdp });
            await pc.setLocalDescription();
            await this.request('answer', { connection, sdp: pc.localDescription.sdp });
            await this.#flushCandidates(connection, pc);
        }

        #peer(connection) {
            const pc = new RTCPeerConnection({ iceServers: this.iceServers, iceTransportPolicy: this.#iceTransportPolicy });
            pc.onicecandidate = ({ candidate }) => {
                this.request('candidate', { connection, candidate: candidate && candidate.toJSON() })
                    .catch((error) => this.events.push({ type: 'client-error', error: String(error) }));
            };
            pc.onconnectionstatechange = () =>
                this.events.push({ type: 'state', connection, state: pc.connectionState, at: performance.now() });
            return pc;
        }

        #pcOf(connection) {
            return (this.publications.get(connection) ?? this.subscriptions.get(connection))?.pc;
        }

        #addCandidate({ connection, candidate }) {
            const pc = this.#pcOf(connection);
            if (pc?.remoteDescription) pc.addIceCandidate(candidate ?? undefined).catch(() => {});
            else this.#candidates.set(connection, [...(this.#candidates.get(connection) ?? []), candidate]);
        }

        async #flushCandidates(connection, pc) {
            for (const candidate of this.#candidates.get(connection) ?? []) {
                await pc.addIceCandidate(candidate ?? undefined).catch(() => {});
            }
            this.#candidates.delete(connection);
        }

        #drop(connection) {
            const gone = this.subscriptions.get(connection);
            if (!gone) return;
            this.subscriptions.delete(connection);
            for (const { video, audio } of gone.received.values()) (video ?? audio).srcObject = null;
            gone.pc.close();
        }

        #received(participant, source) {
            for (const one of this.subscriptions.values()) {
                if (one.participant === participant && one.received.has(source)) return one.received.get(source);
            }
            return undefined;
        }
    }

    // An offer that knows neither the feedback nor the header extension that it needs.
    function withoutTransportCc(sdp) {
        return sdp.split('\r\n').filter((line) => !/^a=(rtcp-fb:.* transport-cc|extmap:.*transport-wide-cc)/.test(line)).join('\r\n');
    }

    // A coloured picture with a counter of tenths of a second as 16 black or white cells across the
    // middle, and a patch above it that is white while a beep sounds. content.mjs reads the same. With
    // `detail` it is noise instead, new in each frame, that takes whatever rate an encoder is given.
    class Picture {
        constructor({ colour, width = 640, height = 360, fps = 25, detail = false }, sound) {
            this.canvas = document.createElement('canvas');
            Object.assign(this.canvas, { width, height });
            this.context = this.canvas.getContext('2d');
            this.colour = colour;
            this.sound = sound;
            this.noise = detail ? makeNoise(width, height) : null;
            this.began = performance.now();
            // Asked for frame by frame: a rate of its own would hold a flash back until the next frame is due.
            this.stream = this.canvas.captureStream(0);
            this.track = this.stream.getVideoTracks()[0];
            this.draw();
            // Else Chromium makes a noisy picture smaller rather than coarser, and small ones take little.
            if (detail) this.track.contentHint = 'detail';
            this.timer = setInterval(() => this.draw(), 1000 / fps);
            this.flashes = [];
            sound?.onBeep(() => {
                this.draw();
                if (sound.beeping) this.flashes.push({ counter: this.counter(), late: sound.late });
            });
        }

        counter() {
            return Math.floor((performance.now() - this.began) / 100);
        }

        resize(width, height) {
            Object.assign(this.canvas, { width, height });
            this.draw();
        }

        draw() {
            this.paint();
            // Firefox has it where older drafts had it.
            (this.track.requestFrame ? this.track : this.stream).requestFrame();
        }

        paint() {
            const { width, height } = this.canvas;
            const { context } = this;
            if (this.noise) return context.drawImage(this.noise, -Math.random() * width, -Math.random() * height);
            context.fillStyle = this.colour;
            context.fillRect(0, 0, width, height);
            context.fillStyle = this.sound?.beeping ? 'white' : 'black';
            context.fillRect(0.25 * width, 0.1 * height, 0.5 * width, 0.2 * height);
            drawCounter(context, this.counter());
        }

        stop() {
            clearInterval(this.timer);
            this.track.stop();
        }
    }

    // Random greys, twice as wide and as high as the picture that is cut out of it.
    function makeNoise(width, height) {
        const canvas = new OffscreenCanvas(2 * width, 2 * height);
        const context = canvas.getContext('2d');
        const grain = 8;
        for (let y = 0; y < canvas.height; y += grain) {
            for (let x = 0; x < canvas.width; x += grain) {
                const grey = Math.floor(256 * Math.random());
                context.fillStyle = `rgb(${grey}, ${grey}, ${grey})`;
                context.fillRect(x, y, grain, grain);
            }
        }
        return canvas;
    }

    // Cells 0 to 11: the counter, highest bit first; 12 to 15: its bits added up, so that a picture
    // that is not ours is hardly ever taken for a number.
    const CELLS = 16;
    const cellX = (cell) => 0.1 + (0.8 * (cell + 0.5)) / CELLS;

    function cellsOf(counter) {
        const bits = Array.from({ length: 12 }, (_, bit) => (counter >> (11 - bit)) & 1);
        const sum = bits.reduce((a, b) => a + b, 0) ^ 0b0101;
        return [...bits, ...Array.from({ length: 4 }, (_, bit) => (sum >> (3 - bit)) & 1)];
    }

    function drawCounter(context, counter) {
        const { width, height } = context.canvas;
        cellsOf(counter % 4096).forEach((bit, cell) => {
            context.fillStyle = bit ? 'white' : 'black';
            context.fillRect((0.1 + (0.8 * cell) / CELLS) * width, 0.4 * height, (0.8 * width) / CELLS + 1, 0.2 * height);
        });
    }

    function readCounter(at) {
        const bits = Array.from({ length: CELLS }, (_, cell) => (at(cellX(cell), 0.5).reduce((a, b) => a + b) > 380 ? 1 : 0));
        const counter = bits.slice(0, 12).reduce((value, bit) => value * 2 + bit, 0);
        return cellsOf(counter).every((bit, cell) => bit === bits[cell]) ? counter : null;
    }

    const TONE_VOLUME = 0.1;

    // A quiet steady tone, and a louder beep of 100 ms at each whole second of the audio clock.
    class Sound {
        beeping = false;
        late = 0; // seconds by which the last beep was noticed after it began
        #listeners = [];

        constructor({ tone, beep }) {
            this.audio = new AudioContext({ sampleRate: 48_000, latencyHint: 'interactive' });
            const out = this.audio.createMediaStreamDestination();
            this.toneGain = this.#oscillator(tone, TONE_VOLUME, out);
            this.track = out.stream.getAudioTracks()[0];
            if (beep) {
                this.beepGain = this.#oscillator(beep, 0, out);
                this.#schedule(Math.ceil(this.audio.currentTime) + 1);
            }
        }

        onBeep(listener) {
            this.#listeners.push(listener);
        }

        setTone(on) {
            this.toneGain.value = on ? TONE_VOLUME : 0;
        }

        stop() {
            clearInterval(this.timer);
            this.track.stop();
            this.audio.close();
        }

        #oscillator(frequency, volume, out) {
            const oscillator = this.audio.createOscillator();
            const gain = this.audio.createGain();
            oscillator.frequency.value = frequency;
            gain.gain.value = volume;
            oscillator.connect(gain).connect(out);
            oscillator.start();
            return gain.gain;
        }

        // The beep is put on the audio clock; the flash follows that clock, looked at every 4 ms.
        #schedule(first) {
            let next = first;
            const set = (at) => {
                this.beepGain.setValueAtTime(0.4, at);
                this.beepGain.setValueAtTime(0, at + 0.1);
            };
            set(next);
            this.timer = setInterval(() => {
                const now = this.audio.currentTime;
                const beeping = now >= next && now < next + 0.1;
                if (now >= next + 0.1) {
                    next = Math.max(next + 1, Math.ceil(now));
                    set(next);
                }
                if (beeping !== this.beeping) {
                    this.beeping = beeping;
                    if (beeping) this.late = now - next;
                    this.#listeners.forEach((tell) => tell());
                }
            }, 4);
        }
    }

    function preferCodec(transceiver, name) {
        const all = RTCRtpSender.getCapabilities('video').codecs;
        const wanted = all.filter(({ mimeType }) => mimeType.toLowerCase() === `video/${name}`.toLowerCase());
        if (wanted.length === 0) throw new Error(`this browser cannot send ${name}`);
        const helpers = all.filter(({ mimeType }) => /rtx|red|ulpfec/i.test(mimeType));
        transceiver.setCodecPreferences([...wanted, ...helpers]);
    }

    function showPicture(track) {
        const video = document.createElement('video');
        Object.assign(video, { muted: true, autoplay: true, playsInline: true, srcObject: new MediaStream([track]) });
        document.body.append(video);
        return { track, video };
    }

    // Chromium lets the sound of a peer into WebAudio only while a media element plays it too.
    function hearSound(track) {
        const audio = document.createElement('audio');
        Object.assign(audio, { muted: true, autoplay: true, srcObject: new MediaStream([track]) });
        const context = new AudioContext({ sampleRate: 48_000 });
        const analyser = context.createAnalyser();
        Object.assign(analyser, { fftSize: 4096, smoothingTimeConstant: 0.6 });
        context.createMediaStreamSource(audio.srcObject).connect(analyser);
        return { track, audio, analyser };
    }

    // Runs in the audio thread: amplitudes of sines (Goertzel) in windows of 10 ms.
    function defineEar() {
        const WINDOW = 480;
        registerProcessor('ear', class extends AudioWorkletProcessor {
            constructor({ processorOptions: { frequencies } }) {
                super();
                this.frequencies = frequencies;
                this.samples = [];
                this.notes = [];
            }

            process([[sound]]) {
                if (!sound) return true;
                for (const sample of sound) this.samples.push(sample);
                if (this.samples.length < WINDOW) return true;
                const levels = this.frequencies.map((frequency) => {
                    const coefficient = 2 * Math.cos((2 * Math.PI * frequency) / sampleRate);
                    let [one, two] = [0, 0];
                    for (const sample of this.samples) [one, two] = [sample + coefficient * one - two, one];
                    return (2 * Math.sqrt(Math.max(0, one * one + two * two - coefficient * one * two))) / this.samples.length;
                });
                this.notes.push({ time: currentTime - this.samples.length / 2 / sampleRate, levels });
                this.samples = [];
                if (this.notes.length >= 10) this.port.postMessage(this.notes.splice(0));
                return true;
            }
        });
    }

    function meanColour(data, width, x, y, radius) {
        const sum = [0, 0, 0];
        let count = 0;
        for (let dy = -radius; dy <= radius; dy++) {
            for (let dx = -radius; dx <= radius; dx++) {
                const at = 4 * ((y + dy) * width + x + dx);
                if (data[at + 3] === undefined) continue;
                for (let c = 0; c < 3; c++) sum[c] += data[at + c];
                count++;
            }
        }
        return sum.map((value) => Math.round(value / count));
    }

    window.Salon = Salon;
    window.salon = new Salon();
    window.canSend = (name) => RTCRtpSender.getCapabilities('video').codecs
        .some(({ mimeType }) => mimeType.toLowerCase() === `video/${name}`.toLowerCase());
})();
