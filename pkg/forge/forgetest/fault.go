package forgetest

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Unavailable answers with a 5xx, as a proxy does: without JSON.
func Unavailable(status int) Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		fmt.Fprintf(w, "<html><body><h1>%s</h1></body></html>", http.StatusText(status))
		return true
	}
}

// SecondaryLimit answers as GitHub does to who asks too much at a time. After 0
// leaves the Retry-After header out.
func SecondaryLimit(after time.Duration) Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if after > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds())))
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again.","documentation_url":"https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"}`)
		return true
	}
}

// Forbidden answers as GitHub does to an app or a token without permissions,
// "issues=write".
func Forbidden(permissions string) Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("X-Accepted-GitHub-Permissions", permissions)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"message":"Resource not accessible by integration","documentation_url":"https://docs.github.com/rest","status":"403"}`)
		return true
	}
}

// Slow takes its time before the server answers, or until the client gives up.
func Slow(d time.Duration) Fault {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-r.Context().Done():
			return true
		case <-time.After(d):
			return false
		}
	}
}

// Redirect leads to another place.
func Redirect(status int, location string) Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, location+r.URL.Path, status)
		return true
	}
}
