package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/host"
)

// sendTimeout of one notice.
const sendTimeout = 30 * time.Second

// sender is how a hook is told.
func sender(h v1alpha1.Notification) (func(context.Context, Notice) error, error) {
	if h.URL != "" {
		// Followed, a POST becomes a GET that tells nothing, and is answered well.
		client := &http.Client{Timeout: sendTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		return func(ctx context.Context, n Notice) error { return post(ctx, client, h, n) }, nil
	}
	cred, err := credential(h.User)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, n Notice) error {
		data, err := json.Marshal(n)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, sendTimeout)
		defer cancel()
		_, err = host.Run(ctx, host.Command{Argv: h.Command, Stdin: string(data) + "\n", Dir: "/", Credential: cred})
		return err
	}, nil
}

func credential(name string) (*syscall.Credential, error) {
	as, err := host.LookupUser(name)
	if err != nil {
		return nil, fmt.Errorf("look up who runs the command: %w", err)
	}
	if own := os.Geteuid(); own != 0 && own == int(as.Uid) {
		return nil, nil // tests without root
	}
	return as, nil
}

// post sends a notice. What the other side answers is not told: it may be anything.
func post(ctx context.Context, client *http.Client, h v1alpha1.Notification, n Notice) error {
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "tekton")
	if h.TokenFile != "" {
		token, err := os.ReadFile(h.TokenFile)
		if err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	answer, err := client.Do(req)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("%s: %w", req.URL.Host, failed.Err) // without the path, which is the secret of many services
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection is used again
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("%s answers %s", req.URL.Host, answer.Status)
	}
	return nil
}
