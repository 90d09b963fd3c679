package git

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"tekton.host/pkg/internal/testenv"
)

// lookEnv has the test program be a daemon that looks once, with these options.
const lookEnv = "TEKTON_TEST_LOOK"

func TestMain(m *testing.M) {
	if text := os.Getenv(lookEnv); text != "" {
		if err := lookOnce(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testenv.Main(m)
}

func lookOnce(text string) error {
	o := Options{}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	o.Decode = (&decoder{}).decode
	s, err := New(o)
	if err != nil {
		return err
	}
	s.look(context.Background())
	return s.Status().Err
}
