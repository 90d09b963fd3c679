package forgetest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Hook is a webhook.
type Hook struct {
	// URL that deliveries are sent to.
	URL string
	// Secret that signs them.
	Secret string
	// Forgejo sends as Forgejo does.
	Forgejo bool
}

// Delivery is one request to a webhook, that is sent as often as the test wants.
type Delivery struct {
	URL    string
	Header http.Header
	Body   []byte
}

// AddHook makes a webhook and its ping.
func (s *Server) AddHook(h Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, h)
	s.deliver(h, "ping", map[string]any{"zen": "Approachable is better than simple.", "hook_id": s.id()})
}

// Deliveries takes what is to be delivered, in the order in which it happened.
// What the test does not send is lost, as it is when a webhook was not there.
func (s *Server) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.pending
	s.pending = nil
	return d
}

// Send delivers, and returns the status of the answer.
func (d Delivery) Send(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(d.Body))
	if err != nil {
		return 0, err
	}
	req.Header = d.Header.Clone()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// deliver signs for one webhook.
func (s *Server) deliver(h Hook, event string, body map[string]any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, []byte(h.Secret))
	mac.Write(text)
	signature := hex.EncodeToString(mac.Sum(nil))
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", s.id())
	header := http.Header{}
	header.Set("Content-Type", "application/json")
	header.Set("X-GitHub-Event", event)
	header.Set("X-GitHub-Delivery", id)
	header.Set("X-Hub-Signature-256", "sha256="+signature)
	if h.Forgejo {
		for _, forge := range []string{"X-Forgejo-", "X-Gitea-"} {
			header.Set(forge+"Event", event)
			header.Set(forge+"Delivery", id)
			header.Set(forge+"Signature", signature)
		}
	} else {
		header.Set("User-Agent", "GitHub-Hookshot/0000000")
	}
	s.pending = append(s.pending, Delivery{URL: h.URL, Header: header, Body: text})
}

// tell delivers to all webhooks what body makes of each.
func (s *Server) tell(event string, body func(h Hook) map[string]any) {
	for _, h := range s.hooks {
		s.deliver(h, event, body(h))
	}
}

// forgejoActions are those that Forgejo calls otherwise.
var forgejoActions = map[string]string{"synchronize": "synchronized", "labeled": "label_updated", "unlabeled": "label_updated"}

func (s *Server) tellPull(repo *repository, p *pull, action string) {
	s.tell("pull_request", func(h Hook) map[string]any {
		action := action
		if other, ok := forgejoActions[action]; ok && h.Forgejo {
			action = other
		}
		return map[string]any{"action": action, "number": p.Number, "pull_request": pullJSON("https://api.github.example", repo, p), "repository": repositoryJSON(repo), "sender": userJSON(p.Author)}
	})
}

func (s *Server) tellComment(repo *repository, c *comment, action string) {
	s.tell("issue_comment", func(h Hook) map[string]any {
		issue := map[string]any{"number": c.number, "state": "open", "user": userJSON(c.Author), "pull_request": map[string]any{"html_url": ""}}
		body := map[string]any{"action": action, "issue": issue, "comment": commentJSON("https://api.github.example", repo, c), "repository": repositoryJSON(repo), "sender": userJSON(c.Author)}
		if h.Forgejo {
			body["is_pull"] = true
		}
		return body
	})
}

func (s *Server) tellPush(repo *repository, branch, commit string) {
	s.tell("push", func(Hook) map[string]any {
		return map[string]any{"ref": "refs/heads/" + branch, "before": strings.Repeat("0", 40), "after": commit, "repository": repositoryJSON(repo), "sender": userJSON(repo.name.Owner)}
	})
}
