"""For the tests: the agents as processes, and a stand-in for Skein that carries tasks between them."""

import atexit
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = str(HERE / "testdata/corpus")
PATIENCE = 20  # seconds until a test gives up; nothing waits that long when all is well


class HttpServer:
    """Answers each request with what `answer(method, path, headers, body)` returns: status, headers, body."""

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, body = answer(self.command, self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass  # a killed agent

            do_GET = do_POST = do
            log_message = lambda *_: None  # noqa: E731

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class FakeSkein(HttpServer):
    """Carries tasks as the sidecars do. It is away at first, and impatient, so that agents must ask again."""

    def __init__(self):
        self.pools, self.tasks, self.results, self.turns = {}, {}, {}, 0
        self.deliveries, self.changed, self.refusals = [], threading.Condition(), 2
        super().__init__(self.answer)

    def answer(self, method, path, headers, body):
        url = urllib.parse.urlsplit(path)  # /from/<pool>/v1/tasks...
        parts, query = url.path.split("/"), dict(urllib.parse.parse_qsl(url.query))
        if method == "POST":
            with self.changed:
                if self.refusals:
                    self.refusals -= 1
                    return 503, {"Retry-After": "0"}, b'{"title": "BusUnavailable"}'
            task = self.submit(query["to"], body, headers["Content-Type"], parts[2], headers["Idempotency-Key"])
        else:
            task = parts[5]
        try:
            status, body = self.results[task].result(min(float(query["wait"]), 0.2))
        except NotYet:
            return 202, {"Skein-Task-Id": task}, json.dumps({"id": task}).encode()
        if status == 200:
            return 200, {"Skein-Task-Id": task}, body
        return 502, {}, json.dumps({"title": "TaskFailed", "detail": body.decode(), "outcome": "failed"}).encode()

    def submit(self, pool, body, kind="text/plain", sender="_gateway", key=None):
        with self.changed:
            task = self.tasks.get((sender, key)) if key else None
            if task is None:
                task = f"{pool}-task-{len(self.results)}"
                self.tasks[sender, key] = task
                self.results[task] = Future()
                threading.Thread(target=self.deliver, args=(task, pool, body, kind, sender), daemon=True).start()
        return task

    def deliver(self, task, pool, body, kind, sender):
        agent = None
        for attempt in range(1, 6):
            with self.changed:
                self.changed.wait_for(lambda: self.pools.get(pool), PATIENCE)
                self.turns += 1
                others = [other for other in self.pools[pool] if other != agent] or self.pools[pool]
                agent = others[self.turns % len(others)]
                self.deliveries.append((pool, task, attempt, agent))
                self.changed.notify_all()
            headers = {"Content-Type": kind, "Skein-Task-Id": task, "Skein-From": sender, "Skein-Attempt": str(attempt)}
            try:
                with urllib.request.urlopen(urllib.request.Request(agent, body, headers)) as response:
                    return self.results[task].set_result((200, response.read()))
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    return self.results[task].set_result((error.code, error.read()))
            except OSError:  # the agent is dead: no more tasks for it
                with self.changed:
                    self.pools[pool] = [other for other in self.pools[pool] if other != agent]
        self.results[task].set_result((500, b"all attempts failed"))

    def wait_for(self, happened):
        with self.changed:
            assert self.changed.wait_for(lambda: happened(self.deliveries), PATIENCE), "it did not happen in time"


class Team(ExitStack):
    """Starts agents; everything stops when the block ends."""

    def __init__(self):
        super().__init__()
        self.skein = FakeSkein()
        self.callback(self.skein.close)

    def start(self, pool: str, **environment: str) -> tuple[str, subprocess.Popen]:
        """Its address and its process."""
        program = [searcher()] if pool == "searcher" else [sys.executable, str(HERE / f"{pool}.py")]
        environment = {"CORPUS": CORPUS, "PORT": "0", "SKEIN_URL": f"{self.skein.url}/from/{pool}", **environment}
        agent = subprocess.Popen(
            program, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.callback(lambda: (agent.kill(), agent.wait(), agent.stdout.close()))
        line = agent.stdout.readline()
        if " port " not in line:
            raise AssertionError(f"{pool} did not start: {line}{agent.stdout.read()}")
        threading.Thread(target=drain, args=(agent.stdout,), daemon=True).start()
        url = f"http://127.0.0.1:{line.split()[-1]}/"
        self.join(pool, url)
        return url, agent

    def join(self, pool: str, url: str):
        with self.skein.changed:
            self.skein.pools.setdefault(pool, []).append(url)
            self.skein.changed.notify_all()

    def ask(self, question: str) -> Future:
        return self.skein.results[self.skein.submit("planner", question.encode())]


def drain(pipe):
    try:
        for _ in pipe:
            pass
    except ValueError:
        pass  # closed


def searcher() -> str:
    """The searcher's program, built once for all tests."""
    global _searcher
    if _searcher is None:
        _searcher = tempfile.TemporaryDirectory()
        atexit.register(_searcher.cleanup)
        build = ["go", "build", "-C", str(HERE / "searcher"), "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]
        subprocess.run([*build, "-o", f"{_searcher.name}/searcher", "."], check=True, env={**os.environ, "CGO_ENABLED": "0"})
    return f"{_searcher.name}/searcher"


_searcher = None
