package statuspage

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// actTimeout of an action. A look at a git remote takes the longest.
const actTimeout = 25 * time.Second

// done says in a sentence what was asked for, by the word that the page is shown with next.
var done = map[string]string{
	"restart": "The daemon was asked for another start. Its events say how it goes.",
	"sync":    "The remote was looked at.",
	"suspend": "The source is suspended: its remote is not looked at until it is resumed.",
	"resume":  "The source is resumed.",
}

// act has an action done for who is signed in, and shows where it was asked for
// again. The session's own word in the form says that the form was ours.
func (s *Server) act(do func(ctx context.Context, r *http.Request) (verb, back string, err error)) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		one := s.sessions.of(r, s.now())
		if one == nil || s.operator == nil {
			return &failure{http.StatusForbidden, "Actions are for who has signed in with the token.", "Sign in, or use the command line on the host."}
		}
		if subtle.ConstantTimeCompare([]byte(r.PostFormValue("csrf")), []byte(one.csrf)) != 1 {
			return &failure{http.StatusForbidden, "This form is not of this page, or of an earlier session.", "Reload the page and try again."}
		}
		ctx, cancel := context.WithTimeout(r.Context(), actTimeout)
		defer cancel()
		verb, back, err := do(ctx, r)
		s.log.Info("action", "path", r.URL.Path, "err", fmt.Sprint(err))
		if err != nil {
			return err
		}
		http.Redirect(w, r, back+"?done="+url.QueryEscape(verb), http.StatusSeeOther)
		return nil
	}
}

func (s *Server) restart(ctx context.Context, r *http.Request) (verb, back string, err error) {
	_, item, err := s.item(r)
	if err != nil {
		return "", "", err
	}
	return "restart", href(item.Ref()), s.operator.Restart(ctx, item.Ref())
}

func (s *Server) source(ctx context.Context, r *http.Request) (verb, back string, err error) {
	name := r.PathValue("name")
	switch verb = r.PathValue("verb"); verb {
	case "sync":
		_, err = s.operator.SyncSource(ctx, name)
	case "suspend":
		err = s.operator.SuspendSource(ctx, name)
	case "resume":
		err = s.operator.ResumeSource(ctx, name)
	default:
		err = s.nothing(nil, r)
	}
	return verb, "/sources", err
}
