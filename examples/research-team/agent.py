"""What the three Python agents share: answer the sidecar's POSTs, and send tasks through it. Plain HTTP, nothing of Skein.

`examples/hello/agent.py` shows the least that an agent needs; this adds the manners: errors that say whether trying
again can help, patience when the sidecar is busy, and a quiet end on SIGTERM.
"""

import hashlib
import http.client
import json
import os
import random
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SKEIN_URL = os.environ.get("SKEIN_URL", "http://127.0.0.1:7800")
SECONDS_WITHOUT_DEADLINE = 100.0


class Refused(Exception):
    """This task cannot be done, and trying again would not help: 422."""


class Later(Exception):
    """This task cannot be done now: 503, and Skein tries again."""


@dataclass
class Task:
    id: str
    content_type: str
    input: bytes
    ends: float  # on the clock of time.monotonic()

    def json(self, *names: str) -> list:
        """The named members of the input."""
        try:
            value = json.loads(self.input)
            return [value[name] for name in names]
        except (ValueError, KeyError, TypeError):
            raise Refused(f"the input must be a JSON object with {', '.join(names)}") from None


def send(task: Task, pool: str, value: dict) -> bytes:
    """Sends a child of `task` to a pool and returns its result. The same content is the same child: a repeat, even by
    another process after this one was killed, finds the first one instead of doing the work twice."""
    content = json.dumps(value).encode()
    key = f"{task.id}:{pool}:{hashlib.sha256(content).hexdigest()[:16]}"
    headers = {"Content-Type": "application/json", "Skein-Task-Id": task.id, "Idempotency-Key": key}
    wait = max(1, min(20, int(task.ends - time.monotonic())))
    post = urllib.request.Request(f"{SKEIN_URL}/v1/tasks?to={pool}&wait={wait}", content, headers)
    request, pause = post, 0.1
    while time.monotonic() < task.ends:
        status, answer, body = exchange(request, wait + 10)
        if status == 200:
            return body
        if status == 202:  # not done yet: go on waiting for that one
            child = answer.get("Skein-Task-Id") or json.loads(body)["id"]
            request, pause = urllib.request.Request(f"{SKEIN_URL}/v1/tasks/{child}/result?wait={wait}"), 0.1
            time.sleep(pause)
        elif status in (0, 429, 503):
            after = answer.get("Retry-After", "")
            patience = max(float(after) if after.isdigit() else 0.0, pause) * random.uniform(1.0, 1.5)
            time.sleep(max(0.0, min(patience, task.ends - time.monotonic())))
            pause = min(pause * 2, 5.0)
        elif status == 404 and request is not post:
            request = post
        else:
            raise Refused(f"the task for {pool} did not complete: {reason(body)}")
    raise Later(f"the time is up, and the task for {pool} is not done")


def exchange(request: urllib.request.Request, timeout: float):
    """Status, headers and body; status 0 when nobody answers."""
    try:
        try:
            response = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:  # an answer too
            response = error
        with response:
            return response.status, response.headers, response.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, {}, str(error).encode()


def reason(problem: bytes) -> str:
    """What a problem document says in words."""
    try:
        value = json.loads(problem)
        return str(value.get("detail") or value.get("title") or value)
    except (ValueError, AttributeError):
        return problem.decode(errors="replace")[:500]


def serve(handle) -> None:
    """Answers every POST with the bytes that `handle(task)` returns, until SIGTERM; then finishes what it has begun."""
    draining, idle, busy = threading.Event(), threading.Condition(), set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(200 if self.path == "/healthz" else 404, b"ok\n", "text/plain")

        def do_POST(self):
            with idle:
                if draining.is_set():
                    return self.reply(503, b"this agent is stopping", "text/plain")
                busy.add(self)
            try:
                self.work()
            finally:
                with idle:
                    busy.discard(self)
                    idle.notify_all()

        def work(self):
            headers, started = self.headers, time.monotonic()
            body = self.rfile.read(int(headers.get("Content-Length", 0)))
            kind = headers.get("Content-Type", "application/octet-stream")
            task = Task(headers.get("Skein-Task-Id", ""), kind, body, started + seconds_until(headers.get("Skein-Deadline")))
            try:
                status, result = 200, handle(task)
            except Refused as error:
                status, result = 422, str(error).encode()
            except Later as error:
                status, result = 503, str(error).encode()
            except Exception as error:  # a bug: say so, and let Skein try again
                status, result = 500, f"{type(error).__name__}: {error}".encode()
            self.reply(status, result, "application/json" if status == 200 else "text/plain; charset=utf-8")
            note = "" if status == 200 else ": " + result.decode()
            log(f"task {task.id} attempt {headers.get('Skein-Attempt')}: {status} in {time.monotonic() - started:.2f} s{note}")

        def reply(self, status: int, body: bytes, kind: str):
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if status == 503:
                    self.send_header("Retry-After", "1")
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the sidecar has hung up

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("", int(os.environ.get("PORT", "8080"))), Handler)

    def drain():
        draining.set()
        with idle:
            idle.wait_for(lambda: not busy)
        server.shutdown()

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=drain).start())
    log(f"{os.path.basename(sys.argv[0])}: port {server.server_address[1]}")
    server.serve_forever(poll_interval=0.1)
    server.server_close()


def seconds_until(deadline: str | None) -> float:
    if not deadline:
        return SECONDS_WITHOUT_DEADLINE
    return (datetime.fromisoformat(deadline) - datetime.now(timezone.utc)).total_seconds()


def log(line: str) -> None:
    print(line, flush=True)
