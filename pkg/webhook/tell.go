package webhook

import (
	"context"
	"time"
)

// tellTimeout of one pull request.
const tellTimeout = time.Minute

// conclude keeps what a pull request has come to, and has it told.
func (s *Server) conclude(r Ref, k Key, v Verdict, preview string) {
	s.mu.Lock()
	c := s.outcomes[k]
	c.ref, c.outcome = r, Outcome{Verdict: v, Preview: preview}
	s.outcomes[k] = c
	s.mu.Unlock()
	s.tells.add(k)
}

// tell the forge what a pull request has come to, if it was not told before.
func (s *Server) tell(ctx context.Context, k Key) error {
	s.mu.Lock()
	c, ok := s.outcomes[k]
	s.mu.Unlock()
	f, known := s.forges[k.Forge]
	if !ok {
		return nil
	}
	c.outcome.Item = s.watcher.View().Previews[s.store.File(c.ref)]
	if t := s.options.Teller; t != nil && known {
		text := t.Text(c.outcome)
		if text != c.told {
			limited, cancel := context.WithTimeout(ctx, tellTimeout)
			defer cancel()
			if err := t.Tell(limited, f.Client, k, c.outcome); err != nil {
				s.log.Info("a pull request could not be told what became of it; it is tried again", "what", k.String(), "why", err.Error())
				return err
			}
			s.mu.Lock()
			now := s.outcomes[k]
			now.told = text
			s.outcomes[k] = now
			s.mu.Unlock()
		}
	}
	return s.forget(k, c)
}

// forget a pull request that has no preview, and was told so.
func (s *Server) forget(k Key, c concluded) error {
	if c.outcome.Shown() || c.outcome.State == StateTaken || c.outcome.State == StateWaiting {
		return nil
	}
	s.placing.Lock()
	defer s.placing.Unlock()
	e, err := s.store.Read(c.ref)
	if err != nil || e.State != SpecAbsent {
		return err
	}
	if e.Record != nil {
		err = s.store.Forget(c.ref)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.outcomes[k]; err == nil && now.outcome.Verdict == c.outcome.Verdict {
		delete(s.outcomes, k)
	}
	return err
}
