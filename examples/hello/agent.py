"""An agent in a dozen lines: Skein's sidecar POSTs a task here, and the response is its result."""
import signal, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_POST(self):  # a task
        name = self.rfile.read(int(self.headers["Content-Length"])).decode().strip()
        self.answer(f"Hello, {name or 'world'}!\n")
    def do_GET(self):  # the health check
        self.answer("ok\n")
    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
ThreadingHTTPServer(("", 8080), Agent).serve_forever()
