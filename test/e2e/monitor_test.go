package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"tekton.host/pkg/notify"
)

// TestMonitoring: metrics on the socket and on an address, and a program that is
// told of one object that is Ready and one that is not.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	out, hook := k.path("told/notices"), k.path("told/hook")
	k.check(os.Mkdir(k.path("told"), 0o777))
	k.check(os.Chmod(k.path("told"), 0o777))
	k.check(os.WriteFile(hook, []byte("#!/bin/sh\ncat >>"+out+"\n"), 0o755))
	address := fmt.Sprintf("127.0.0.1:%d", k.httpPort()+400)
	k.extra = "metrics: {address: \"" + address + "\"}\n  notifications: [{name: pager, command: [" + hook + "], after: 1s}]"
	k.writeConfig()
	k.up()
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("web")
	bySocket, err := overSocket(k.path("run/tekton.sock"), "/metrics")
	k.check(err)
	_, byAddress, err := fetch("http://"+address+"/metrics", "")
	k.check(err)
	for what, text := range map[string]string{"socket": bySocket, "address": byAddress} {
		for _, line := range []string{
			`tekton_object_ready{kind="Container",name="web"} 1`, `tekton_objects{kind="Container",phase="Ready"} 1`,
			`tekton_step_duration_seconds_count{kind="unit",verb="put"} 1`, `tekton_slots{state="used"} 1`, `tekton_source_complete{source="local"} 1`,
		} {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("the %s does not tell %q", what, line)
			}
		}
	}
	// The address serves nothing else of the API.
	code, _, err := fetch("http://"+address+"/v1/objects", "")
	k.check(err)
	if code != http.StatusNotFound {
		t.Errorf("the address of the metrics answers %d to a question of the API", code)
	}
	k.write("bad.yaml", container("bad", "system: {rootfs: "+k.rootfs+"}", "command: [guest, crash]"))
	for name, ready := range map[string]bool{"web": true, "bad": false} {
		k.eventually("the program hears how "+name+" is", func() error {
			text, err := os.ReadFile(out)
			for line := range strings.Lines(string(text)) {
				var n notify.Notice
				if err := json.Unmarshal([]byte(line), &n); err != nil {
					return err
				}
				if n.Object.Name == name && n.Ready == ready {
					return nil
				}
			}
			return fmt.Errorf("it heard %q (%v)", text, err)
		})
	}
}
