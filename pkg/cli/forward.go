package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/wire"
)

// maxForwarded connections of one port-forward at one time; more wait.
const maxForwarded = 64

func (a *app) portForwardCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "port-forward NAME [LOCAL:]PORT...",
		Short: "Listen on this host's loopback for ports of a machine",
		Long: "Listen on 127.0.0.1 and pass connections on to ports of a machine, over the daemon's\n" +
			"socket: whoever may use that may do so, no rule of the network changes. LOCAL 0\n" +
			"chooses a free port. The machine has to listen on its address, not on its loopback only.",
		Example: "  tekton port-forward web 8080\n  tekton port-forward web 9000:80 0:5432",
		Args:    cobra.MinimumNArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeRefs(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var pairs []forwarding
			for _, arg := range args[1:] {
				p, err := parseForwarding(arg)
				if err != nil {
					return err
				}
				pairs = append(pairs, p)
			}
			ref, err := a.resolveOne(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.forward(cmd.Context(), ref, pairs)
		},
	}
}

// forwarding is a port here and one of a machine.
type forwarding struct{ local, port uint16 }

func parseForwarding(text string) (forwarding, error) {
	local, port, both := strings.Cut(text, ":")
	if !both {
		port = local
	}
	l, errLocal := strconv.ParseUint(local, 10, 16)
	p, errPort := strconv.ParseUint(port, 10, 16)
	if errLocal != nil || errPort != nil || p == 0 {
		return forwarding{}, usage("%q is no [LOCAL:]PORT", text)
	}
	return forwarding{uint16(l), uint16(p)}, nil
}

// forward listens first on all ports, so that it fails before it says anything.
func (a *app) forward(ctx context.Context, ref v1alpha1.Ref, pairs []forwarding) error {
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	var c net.ListenConfig
	for _, p := range pairs {
		l, err := c.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(p.local))))
		if err != nil {
			return &exit{code: exitError, err: err, next: "choose another port here: 0:" + strconv.Itoa(int(p.port))}
		}
		listeners = append(listeners, l)
	}
	var all sync.WaitGroup
	defer all.Wait()
	for i, l := range listeners {
		defer context.AfterFunc(ctx, func() { l.Close() })()
		a.say("%s is port %d of %s", l.Addr(), pairs[i].port, ref)
		all.Go(func() { a.accept(ctx, l, ref, pairs[i].port) })
	}
	<-ctx.Done()
	return ctx.Err()
}

// accept passes connections on until the listener is closed.
func (a *app) accept(ctx context.Context, l net.Listener, ref v1alpha1.Ref, port uint16) {
	var all sync.WaitGroup
	defer all.Wait()
	room := make(chan struct{}, maxForwarded)
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many files are open
			a.warn("%v", err)
			<-room
			time.Sleep(time.Second)
			continue
		}
		all.Go(func() {
			defer func() { <-room }()
			machine, err := a.client.Connect(ctx, ref, port)
			if err != nil {
				if ctx.Err() == nil {
					_, next := explain(err)
					a.warn("%s", joined("; next step: ", fmt.Sprint(err), next))
				}
				conn.Close()
				return
			}
			wire.Relay(ctx, conn.(*net.TCPConn), machine)
		})
	}
}
