"""Notes, as JSON: GET lists them, POST adds one. The proxy has removed /api."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from database import sql


class API(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/notes":
            return self.send_error(404)
        self.answer(json.loads(sql("SELECT coalesce(json_agg(text ORDER BY id), '[]') FROM note;")))

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        sql("INSERT INTO note (text) VALUES (:'text');", text=" ".join(text.split()))
        self.answer("added")

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", int(os.environ["PORT"])), API).serve_forever()
