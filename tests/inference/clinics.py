"""A patient's page, served for tests; and what a browser does with it, in Python."""

from __future__ import annotations

import http.client
import json
from contextlib import contextmanager

import numpy as np

from crypto.inference.sealed_shares import seal
from deployment.clinic.serving import ClinicServer, Place
from deployment.inference.folders import read_folder

OCTETS = {"Content-Type": "application/octet-stream"}


class Visitor:
    """Sends requests to a page as it is asked to, and returns status, headers and body."""

    def __init__(self, server: ClinicServer) -> None:
        self.url = server.url
        address, _, self.token = server.url.partition("/#")
        self.origin, self.host = address, address.partition("://")[2]

    def send(self, method, path, body=None, headers=(), *, token=True, host=""):
        said = {"Host": host or self.host, **dict(headers)}
        if token:
            said["Authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.request(method, path, body, said)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def about(self):
        status, _, body = self.send("GET", "/about")
        assert status == 200, body
        return json.loads(body)

    def ask(self, words, about, seed=0):
        """Share words as the page does, and return what came, line by line."""
        mask = np.random.default_rng(seed).integers(0, 2**64, words.shape, dtype=np.uint64)
        closed = seal(bytes.fromhex(about["seal"]), mask.tobytes(), about["model"])
        body = (words - mask).tobytes() + closed
        path = f"/predictions?model={about['model']}"
        status, _, answer = self.send("POST", path, body, OCTETS)
        assert status == 200, answer
        return [json.loads(line) for line in answer.splitlines()]


@contextmanager
def clinic(folder, place=None, **options):
    """Yield the page of a patient, served by a thread."""
    place = place or Place.bound("127.0.0.1:0")
    server = ClinicServer(read_folder(folder, "patient"), place, **options).start()
    try:
        yield server
    finally:
        server.close()
