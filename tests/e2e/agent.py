"""An agent for the end-to-end tests. MODE says how it behaves; a task's input may say more (`sleep 3`)."""
import json, os, signal, sys, threading, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODE = os.environ.get("MODE", "echo")
hung = threading.Event()


class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        if hung.is_set():
            time.sleep(3600)
        self.answer(200, "ok")

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        print(f"begin {text}", flush=True)
        if MODE == "fail":
            return self.answer(500, "I always fail")
        if MODE == "refuse":
            return self.answer(422, "I refuse this task")
        if MODE == "hang" or text == "hang":
            time.sleep(3600)
        if text == "hang for good":
            hung.set()
            time.sleep(3600)
        if text.startswith("sleep "):
            time.sleep(float(text.split()[1]))
        if text.startswith("ask "):  # passes the rest on: `ask <pool or capability=name> <input>`
            _, to, text = text.split(" ", 2)
            to = to if "=" in to else f"to={to}"
            request = urllib.request.Request(f"{os.environ['SKEIN_URL']}/v1/tasks?{to}&wait=60", text.encode(),
                                             {"Skein-Task-Id": self.headers["Skein-Task-Id"]})
            try:
                return self.answer(200, urllib.request.urlopen(request).read().decode())
            except urllib.error.HTTPError as error:
                return self.answer(422, json.loads(error.read()).get("detail", "?"))
        self.answer(200, f"{os.environ.get('HOSTNAME', '?')} did {text}")

    def answer(self, status, text):
        print(f"answer {status} {text[:60]}", flush=True)
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if MODE == "exit":
    print("I exit at once", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Agent).serve_forever()
