package host_test

import (
	"errors"
	"os/user"
	"testing"

	"tekton.host/pkg/host"
)

func TestLookupUser(t *testing.T) {
	if root, err := host.LookupUser("root"); err != nil || root.Uid != 0 || root.Gid != 0 {
		t.Errorf("root is %+v, %v", root, err)
	}
	if _, err := host.LookupUser("no-such-user"); !errors.Is(err, user.UnknownUserError("no-such-user")) {
		t.Errorf("%v does not say that there is no such user", err)
	}
}
