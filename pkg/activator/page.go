package activator

import (
	"fmt"
	"html"
	"net/http"
)

// wakingPage loads again by itself. It needs nothing from anywhere else.
const wakingPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="1"><title>Starting</title>
<h1>Starting</h1><p>%s was asleep, as nobody had asked for it. It is being started; this page loads again by itself.
`

const unavailablePage = `<!doctype html><title>Not available</title><h1>503 Not available</h1><p>%s does not answer at the moment.
`

func page(w http.ResponseWriter, text, label, retryAfter string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Retry-After", retryAfter)
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprintf(w, text, html.EscapeString(label))
}

func waking(w http.ResponseWriter, label string) { page(w, wakingPage, label, "1") }

func unavailable(w http.ResponseWriter, label string) { page(w, unavailablePage, label, "5") }

// stateHeader tells a health check what it was answered for.
const stateHeader = "Tekton-State"

// sleeping answers a health check: to sleep is no failure, and the next request
// is served.
func sleeping(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set(stateHeader, "asleep")
	fmt.Fprintln(w, "asleep")
}
