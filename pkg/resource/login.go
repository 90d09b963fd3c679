package resource

import "slices"

// Login is a user of a machine whom ssh lets in.
type Login struct {
	User string `json:"user"`
	Home string `json:"home"` // where its volume is bound
	// HostKey names the machine's ssh host key, which each start derives from the
	// secret in KeyFile: nothing is stored for it.
	HostKey string `json:"hostKey"`
	KeyFile string `json:"keyFile"`
	// Keys are the lines of authorized_keys. They change while the machine runs.
	Keys []string `json:"keys,omitempty"`
}

// sameKeys compares what can be changed hot; all else is in the fingerprint.
func (l *Login) sameKeys(o *Login) bool {
	if l == nil || o == nil {
		return l == o
	}
	return slices.Equal(l.Keys, o.Keys)
}
