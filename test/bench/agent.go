package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
)

// payload is what the machines of both sides run.
type payload struct {
	name   string // to the script
	answer string // to people
	rootfs string // of the script's machines
	agent  bool   // tekton's objects are Agents
	// repository and commit of tekton's objects that are Previews
	repository, commit string
	port               uint16
	answered           func(netip.AddrPort) bool
}

func (b *bench) httpd() payload {
	return payload{
		name: "httpd", answer: "HTTP 200", rootfs: b.rootfs, port: 8080,
		answered: func(at netip.AddrPort) bool { return answers(at, "bench") },
	}
}

// agents compares Agents with the script's machines that run the same sshd out
// of the same userland, the host's.
func (b *bench) agents() error {
	root := filepath.Join(b.s.dir, "agent")
	if err := makeAgentRoot(root); err != nil {
		return err
	}
	return b.compare(1, payload{name: "sshd", answer: "ssh answers", rootfs: root, agent: true, port: 22, answered: greets}, 1.3)
}

// makeAgentRoot makes what the host's /usr lacks to be a system.
func makeAgentRoot(dir string) error {
	for _, d := range []string{"usr", "etc", "proc", "sys", "dev", "run", "tmp", "var", "root", "home/agent"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, l := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+l, filepath.Join(dir, l)); err != nil {
			return err
		}
	}
	cache, err := os.ReadFile("/etc/ld.so.cache")
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"etc/ld.so.cache": string(cache), "etc/group": "root:x:0:\nagent:x:1000:\n",
		"etc/passwd":      "root:x:0:0:root:/root:/bin/sh\nsshd:*:65533:65534::/run/sshd:/usr/sbin/nologin\nagent:*:1000:1000::/home/agent:/bin/bash\n",
		"etc/sshd_config": "ListenAddress 0.0.0.0:22\nHostKey /etc/host_key\nUsePAM no\nPidFile none\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	keygen := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "etc/host_key"))
	if out, err := keygen.CombinedOutput(); err != nil {
		return fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	return nil
}
