package server_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/server/servertest"
	"tekton.host/pkg/server/wire"
)

// echo answers a connection, after its end, with all that came.
func echo(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				text, _ := io.ReadAll(conn)
				io.WriteString(conn, strings.ToUpper(string(text)))
			}()
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestConnect(t *testing.T) {
	port := echo(t)
	socket, stop := serve(t, servertest.New(servertest.State{Items: []v1alpha1.Item{item("web")}}))
	defer stop()
	for _, text := range []string{"", "hello", strings.Repeat("much", 1<<18)} {
		conn, err := client.New(socket).Connect(t.Context(), web, port)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			io.WriteString(conn, text)
			conn.CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if err != nil || string(got) != strings.ToUpper(text) {
			t.Errorf("%d bytes of %d came back, %v", len(got), len(text), err)
		}
		conn.Close()
	}
}

func TestConnectRefused(t *testing.T) {
	socket, stop := serve(t, servertest.New(servertest.State{Items: []v1alpha1.Item{item("web")}}))
	defer stop()
	c := client.New(socket)
	for name, tt := range map[string]struct {
		ref  v1alpha1.Ref
		port uint16
		want wire.Code
	}{
		"no port":       {web, 0, wire.Invalid},
		"nobody there":  {web, 1, wire.Unavailable},
		"no such thing": {v1alpha1.Ref{Kind: "Container", Name: "nothing"}, 1, wire.NotFound},
	} {
		_, err := c.Connect(t.Context(), tt.ref, tt.port)
		if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}
