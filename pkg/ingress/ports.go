package ingress

import (
	"errors"
	"fmt"
	"net/netip"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// checkPorts returns an error when another process than ours listens on one of
// the ports. Caddy's own message names no process, and where the other has
// SO_REUSEPORT too there is no message at all: both would be given connections.
func checkPorts(proc string, ours int, ports ...int) error {
	all, err := host.Listeners(proc)
	if err != nil {
		return resource.Because(reasonPort, err)
	}
	var errs []error
	for _, port := range ports {
		var taken []host.Listener
		for _, l := range all {
			if port != 0 && l.Takes("tcp", netip.Addr{}, port) {
				taken = append(taken, l)
			}
		}
		if who := host.Holder(proc, taken, ours); who != "" {
			errs = append(errs, fmt.Errorf("port %d is used by %s: stop it or choose another port in Host.spec.ingress", port, who))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return resource.Because(reasonPort, err)
	}
	return nil
}
