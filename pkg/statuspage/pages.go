package statuspage

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/server/wire"
)

//go:embed templates
var templates embed.FS

// pages by the name of their template, each with the frame of all.
var pages = func() map[string]*template.Template {
	all := map[string]*template.Template{}
	for _, name := range []string{"overview", "object", "logs", "events", "plan", "picture", "sources", "login", "failure"} {
		all[name] = template.Must(template.New("frame.html").Funcs(funcs).ParseFS(templates, "templates/frame.html", "templates/parts.html", "templates/"+name+".html"))
	}
	return all
}()

var funcs = template.FuncMap{
	"dict":  dict,
	"href":  href,
	"mark":  mood.mark,
	"lower": strings.ToLower,
	"mood":  func(s string) mood { return mood(s) },
	"utc":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"since": terminal.Since,
	"until": terminal.Until,
	"parts": parts,
	"good":  v1alpha1.Condition.Good,
	"json":  func(text []byte) string { return cut(string(text), 200) },
}

// dict is what a part of a page is given by name.
func dict(pairs ...any) map[string]any {
	d := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		d[pairs[i].(string)] = pairs[i+1]
	}
	return d
}

// cut is a text that is not longer than a line may be.
func cut(text string, n int) string {
	if text == "" {
		return "(none)"
	}
	return short(text, n)
}

// frame is what every page is given.
type frame struct {
	Title, Tab, Host string
	View             View
	Now              time.Time
	// Old says why what is shown may not be so any more, and what helps.
	Old, OldNext string
	// SignIn is where there is a token; In and CSRF of who has shown it.
	SignIn, In bool
	CSRF       string
	// Act and Logs are for who asks.
	Act, Logs bool
	Done      string
	Body      any
}

func (s *Server) frame(r *http.Request) frame {
	v, _ := s.mirror.View()
	f := frame{Host: s.host, View: v, Now: s.now(), Tab: r.URL.Path, SignIn: s.sessions != nil, Logs: s.mayReadLogs(r), Done: done[r.URL.Query().Get("done")]}
	if one := s.sessions.of(r, f.Now); one != nil {
		f.In, f.CSRF, f.Act = true, one.csrf, s.operator != nil
	}
	if v.Err != nil {
		f.Old, f.OldNext = v.Err.Error(), advice(v.Err)
	}
	return f
}

// show a page. What comes from elsewhere cannot leave its place in the HTML, by
// html/template, and cannot reorder or hide text around it, by the escaping of all.
func (s *Server) show(w http.ResponseWriter, r *http.Request, status int, name, title string, body any) error {
	f := s.frame(r)
	f.Title, f.Body = title, body
	var page bytes.Buffer
	if err := pages[name].Execute(&page, f); err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, terminal.EscapeLines(page.String()))
	return nil
}

// fail shows why there is no answer. Its own page can fail only by a mistake of ours.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{http.StatusBadGateway, err.Error() + ".", advice(err)}
		if e, ok := errors.AsType[*wire.Error](err); ok {
			f.text, f.next = e.Message, e.Next
			if e.Code == wire.NotFound {
				f.status = http.StatusNotFound
			}
		}
	}
	body := struct {
		Text string
		Next []part
	}{f.text, parts(f.next)}
	if err := s.show(w, r, f.status, "failure", http.StatusText(f.status), body); err != nil {
		s.log.Error(err, "a page could not be made", "path", r.URL.Path)
		http.Error(w, f.text, f.status)
	}
}

func (s *Server) overviewPage(w http.ResponseWriter, r *http.Request) error {
	v, _ := s.mirror.View()
	q := r.URL.Query()
	o := overviewOf(v, short(q.Get("q"), 100), q.Get("only"), s.now())
	return s.show(w, r, http.StatusOK, "overview", o.Headline(), o)
}

func (s *Server) objectPage(w http.ResponseWriter, r *http.Request) error {
	v, item, err := s.item(r)
	if err != nil {
		return err
	}
	o := objectOf(v, item, s.mayReadLogs(r), s.now())
	return s.show(w, r, http.StatusOK, "object", fmt.Sprintf("%s is %s", item.Ref(), item.Status.Phase), o)
}

// shownEvents at most on the page of events.
const shownEvents = 200

func (s *Server) eventsPage(w http.ResponseWriter, r *http.Request) error {
	v, _ := s.mirror.View()
	warnings := r.URL.Query().Get("only") == "warnings"
	var events []v1alpha1.Event
	for _, e := range slices.Backward(v.Events) {
		if len(events) < shownEvents && (!warnings || e.Type == v1alpha1.EventWarning) {
			events = append(events, e)
		}
	}
	body := struct {
		Events   []v1alpha1.Event
		Warnings bool
	}{events, warnings}
	return s.show(w, r, http.StatusOK, "events", "Events", body)
}

func (s *Server) planPage(w http.ResponseWriter, r *http.Request) error {
	report, err := s.plans.latest(r.Context(), s.reader, s.now)
	if err != nil {
		return err
	}
	var changed []v1alpha1.PlanObject
	for _, o := range report.Objects {
		if o.Action != v1alpha1.PlanNone || len(o.Warnings) > 0 {
			changed = append(changed, o)
		}
	}
	body := struct {
		Changed   []v1alpha1.PlanObject
		Unchanged int
		Warnings  []string
	}{changed, len(report.Objects) - len(changed), report.Warnings}
	return s.show(w, r, http.StatusOK, "plan", "Plan", body)
}

func (s *Server) picturePage(w http.ResponseWriter, r *http.Request) error {
	v, _ := s.mirror.View()
	return s.show(w, r, http.StatusOK, "picture", "Picture", pictureOf(v.Items, s.host))
}

func (s *Server) sourcesPage(w http.ResponseWriter, r *http.Request) error {
	v, _ := s.mirror.View()
	type source struct {
		v1alpha1.SourceStatus
		Concern *concern
	}
	var body []source
	for _, status := range v.Sources {
		one := source{SourceStatus: status}
		if c, any := concernOfSource(status); any {
			one.Concern = &c
		}
		body = append(body, one)
	}
	return s.show(w, r, http.StatusOK, "sources", "Sources", body)
}

var errNoLogs = &failure{http.StatusForbidden, "Logs are for who has signed in: nobody knows what programs print.", "Sign in, or on the host: tekton logs NAME"}

func (s *Server) logsPage(w http.ResponseWriter, r *http.Request) error {
	_, item, err := s.item(r)
	if err != nil {
		return err
	}
	if !s.mayReadLogs(r) {
		return errNoLogs
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	select {
	case s.logPages <- struct{}{}:
		defer func() { <-s.logPages }()
	case <-ctx.Done():
		w.Header().Set("Retry-After", "10")
		return &failure{http.StatusServiceUnavailable, "As many look at logs as may at a time.", "Try again in a while, or on the host: tekton logs NAME"}
	}
	o := logOptions(r)
	body := struct {
		row
		Of    string
		Tail  int
		Lines []string
		None  string
	}{row: rowOf(item), Of: r.URL.Query().Get("of"), Tail: o.Tail}
	text, err := readLog(ctx, s.operator, item.Ref(), o)
	if e, ok := errors.AsType[*wire.Error](err); ok {
		body.None = e.Message
	} else if err != nil {
		return err
	}
	body.Lines = text
	return s.show(w, r, http.StatusOK, "logs", "Log of "+item.Ref().String(), body)
}

const (
	// maxLog bounds what a page shows of a log. Made a page, it takes ten times the memory.
	maxLog = 512 << 10
	// maxLogPages are made and sent at a time; others wait for them.
	maxLogPages = 8
)

func readLog(ctx context.Context, daemon *client.Client, ref v1alpha1.Ref, o v1alpha1.LogOptions) ([]string, error) {
	log, err := daemon.Logs(ctx, ref, o)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	text, err := lastOf(log, maxLog)
	if err != nil {
		return nil, err
	}
	return slices.Collect(strings.Lines(text)), nil
}

// lastOf what is read are its last lines, of at most n bytes.
func lastOf(r io.Reader, n int) (string, error) {
	var text bytes.Buffer
	for {
		_, err := io.CopyN(&text, r, int64(n))
		if more := text.Len() - n; more > 0 {
			text.Next(more)
			text.Next(bytes.IndexByte(text.Bytes(), '\n') + 1) // a line whose beginning is not there
		}
		if err == io.EOF {
			return text.String(), nil
		}
		if err != nil {
			return "", err
		}
	}
}
