package launch

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"tekton.host/pkg/machine/handover"
	"tekton.host/pkg/resource"
)

// droppedCapabilities are those of nspawn's default set that a machine does not
// get unless its spec asks: raw sockets (forged packets), device nodes, the
// clock, the audit configuration.
var droppedCapabilities = []string{"CAP_AUDIT_CONTROL", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SYS_TIME"}

// stopSignal is what nspawn sends to the first process when it is told to end:
// to systemd it means power off, and nspawn's stub, which ignores SIGTERM,
// answers it with a SIGTERM to the command.
const stopSignal = "SIGRTMIN+3"

// nspawnArgs is systemd-nspawn's argument list for a staged root.
//
// Not among them: --no-new-privileges, which would break sudo, su and every
// setuid program that a rootfs brings. In a user namespace those give no more
// than the machine's own root, which it is anyway.
//
// Device nodes need no policy of their own: a user namespace cannot make them,
// what is bound is nodev, and /dev holds nspawn's harmless set only.
func nspawnArgs(r Record, root string, binds []resource.Bind) []string {
	i := r.Instance
	args := []string{
		"--keep-unit", "--register=no", "--quiet",
		"--settings=no", // a planted NAME.nspawn must not configure anything
		"--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--private-network",
		"--machine=" + i.Name, "--hostname=" + i.Hostname, "--uuid=" + machineID(r),
		"--directory=" + root,
	}
	if i.UIDBase != 0 {
		args = append(args, fmt.Sprintf("--private-users=%d:%d", i.UIDBase, resource.UIDRange), "--private-users-ownership=off")
	}
	args = append(args, CapabilityFlags(i.Capability)...)
	args = append(args, "--kill-signal="+stopSignal)
	if len(i.Command) > 0 {
		// nspawn's stub is PID 1: it reaps what the command leaves behind.
		args = append(args, "--as-pid2", "--console=pipe")
	} else {
		// systemd wants a terminal as /dev/console.
		args = append(args, "--console=passive")
	}
	for _, b := range binds {
		flag := "--bind="
		if b.ReadOnly {
			flag = "--bind-ro="
		}
		args = append(args, flag+escapeBind(b.Source)+":"+escapeBind(b.Target))
	}
	return append(args, "--", handover.InitPath)
}

// CapabilityFlags give a machine nspawn's default set without what is dropped,
// and with what its spec asks for.
func CapabilityFlags(kept []string) []string {
	var flags []string
	drop := slices.DeleteFunc(slices.Clone(droppedCapabilities), func(c string) bool { return slices.Contains(kept, c) })
	if len(drop) > 0 {
		flags = append(flags, "--drop-capability="+strings.Join(drop, ","))
	}
	if len(kept) > 0 {
		flags = append(flags, "--capability="+strings.Join(kept, ","))
	}
	return flags
}

// escapeBind keeps nspawn from splitting a path.
func escapeBind(p string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(p)
}

// machineID is the machine's stable id in UUID form. It differs between
// instances and is the same after every start of one.
func machineID(r Record) string {
	h := sha256.Sum256([]byte("machine " + r.Instance.Name + " of " + r.Mark))
	h[6] = h[6]&0x0f | 0x40
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
