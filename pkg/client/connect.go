package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/wire"
)

// Connect connects to a TCP port of an object's machine.
func (c *Client) Connect(ctx context.Context, ref v1alpha1.Ref, port uint16) (wire.Duplex, error) {
	resp, err := c.do(ctx, request{
		method: http.MethodPost, path: objectPath(ref, "/connect"), query: url.Values{"port": {strconv.Itoa(int(port))}},
		header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {wire.ConnectProtocol}},
	})
	if err != nil {
		return nil, err
	}
	conn, ok := resp.Body.(wire.Duplex)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body.Close()
		return nil, fmt.Errorf("the daemon on %s does not speak %s", c.socket, wire.ConnectProtocol)
	}
	return conn, nil
}
