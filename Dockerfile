# Salon in a container: built on Debian 12, run on Debian 12 slim, not as root.
#
#   docker build -t salon .
#   docker compose up            (with a TURN server; see compose.yaml)

FROM debian:bookworm-slim AS build
ARG RUST_VERSION=1.95.0
ENV DEBIAN_FRONTEND=noninteractive PATH=/root/.cargo/bin:$PATH
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends \
      build-essential pkg-config ca-certificates curl \
      libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstreamer-plugins-bad1.0-dev \
 && rm -rf /var/lib/apt/lists/*
RUN curl --proto '=https' --tlsv1.2 --retry 5 -sSf -o /tmp/rustup.sh https://sh.rustup.rs \
 && sh /tmp/rustup.sh -y --profile minimal --default-toolchain "$RUST_VERSION"
WORKDIR /salon
COPY . .
RUN --mount=type=cache,target=/root/.cargo/registry \
    --mount=type=cache,target=/salon/target \
    cargo build --release --locked && install -D target/release/salon /out/salon

FROM debian:bookworm-slim
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends \
      ca-certificates fonts-noto-cjk frei0r-plugins gstreamer1.0-libav gstreamer1.0-nice \
      gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
      gstreamer1.0-plugins-ugly gstreamer1.0-x \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/salon salon \
 && install -d -o salon -g salon -m 0750 /var/lib/salon /var/lib/salon/recordings
COPY --from=build /out/salon /usr/local/bin/salon

USER salon
WORKDIR /var/lib/salon
# Recordings, the catalogue beside them, and the self-signed certificate if no other is given.
VOLUME /var/lib/salon
# Threads come and go all the time: the C library is not to keep freed memory for each of them apart.
ENV MALLOC_ARENA_MAX=2 \
    SALON_DATA_DIR=/var/lib/salon \
    SALON_RECORDINGS_DIR=/var/lib/salon/recordings \
    SALON_HTTPS_LISTEN=0.0.0.0:4443 \
    SALON_RTSP_LISTEN=0.0.0.0:8554 \
    SALON_SRT_LISTEN=0.0.0.0:8890 \
    SALON_MEDIA_PORTS=40000-40999
# Media is UDP; TCP of the same range is for who cannot use UDP (SALON_MEDIA_TCP=false leaves it out).
EXPOSE 4443/tcp 8554/tcp 8890/udp 40000-40999/udp 40000-40999/tcp
# The plain listener is on the container's own loopback: enough for asking whether it is well.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["salon"]
CMD ["serve"]
