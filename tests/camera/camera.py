#!/usr/bin/python3
"""A camera for the tests: gst-rtsp-server with one stream, in a process of its own, so that it can be
killed and stopped like a real one.

usage: camera.py JSON
  {"launch": "( videotestsrc ! … ! rtph264pay name=pay0 )", "port": 0,
   "protocols": "tcp" | "udp" (both), "auth": "basic" | "digest" (none),
   "certificate": a PEM file with a key, for TLS (none)}

Prints its port and serves rtsp://127.0.0.1:PORT/live until it is killed; prints `play` and `teardown` when it is
asked to. User `admin`, password `s3cret`.
"""
import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

USER, PASSWORD = "admin", "s3cret"


def authentication(method, factory):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    if method == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(USER, PASSWORD, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(USER, PASSWORD), token)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)
    return auth


def told(word):
    # Whoever started it may have gone, or reads no further.
    try:
        print(word, flush=True)
    except BrokenPipeError:
        pass


def watch(_, client):
    client.connect("play-request", lambda *_: told("play"))
    client.connect("teardown-request", lambda *_: told("teardown"))


def main():
    spec = json.loads(sys.argv[1])
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(spec.get("port", 0)))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(spec["launch"])
    factory.set_shared(True)
    # A camera sends what it has, whoever watches.
    factory.set_suspend_mode(GstRtspServer.RTSPSuspendMode.NONE)
    protocols = {"tcp": GstRtsp.RTSPLowerTrans.TCP, "udp": GstRtsp.RTSPLowerTrans.UDP}
    if "protocols" in spec:
        factory.set_protocols(protocols[spec["protocols"]])
    if "auth" in spec:
        server.set_auth(authentication(spec["auth"], factory))
    if "certificate" in spec:
        auth = GstRtspServer.RTSPAuth()
        # Everybody may watch, who takes the certificate.
        token, permissions = GstRtspServer.RTSPToken(), GstRtspServer.RTSPPermissions()
        token.set_string("media.factory.role", "anybody")
        auth.set_default_token(token)
        permissions.add_permission_for_role("anybody", "media.factory.access", True)
        permissions.add_permission_for_role("anybody", "media.factory.construct", True)
        factory.set_permissions(permissions)
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(spec["certificate"]))
        server.set_auth(auth)
    server.get_mount_points().add_factory("/live", factory)
    server.connect("client-connected", watch)
    if server.attach(None) == 0:
        sys.exit("the port is taken")
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


main()
