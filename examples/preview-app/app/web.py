"""The page: what it is a preview of, and the notes that the API has."""

import html
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = f"""<h1>Notes</h1>
<p>{html.escape(os.environ["PREVIEW_BRANCH"])} at {os.environ["PREVIEW_COMMIT"]}</p>
<ul id=notes></ul>
<form onsubmit="fetch('/api/notes', {{method: 'POST', body: this.text.value}}).then(() => location.reload()); return false">
<input name=text autofocus> <button>Add</button></form>
<script>fetch('/api/notes').then(r => r.json()).then(all => all.forEach(text => notes.append(Object.assign(document.createElement('li'), {{textContent: text}}))))</script>
""".encode()


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)


ThreadingHTTPServer(("", 3000), Page).serve_forever()
