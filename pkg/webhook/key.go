package webhook

import (
	"fmt"
	"strings"

	"tekton.host/pkg/forge"
)

// Key is what there is to look at: a pull request, or a branch that was pushed to.
type Key struct {
	// Forge by its name in the configuration.
	Forge string `json:"forge"`
	// Repository there.
	Repository forge.Repository `json:"repository"`
	// Number of the pull request; or
	Number int `json:"number,omitempty"`
	// Branch that was pushed to.
	Branch string `json:"branch,omitempty"`
}

// folded is the key as every Key is made: in lower case. Forges do not tell cases
// of a repository's name apart, deliveries spell it in one way, a url in another,
// and two keys of one pull request would be two workers with it at a time.
func (k Key) folded() Key {
	k.Repository.Owner, k.Repository.Name = strings.ToLower(k.Repository.Owner), strings.ToLower(k.Repository.Name)
	return k
}

// String is FORGE OWNER/NAME#NUMBER or FORGE OWNER/NAME:BRANCH.
func (k Key) String() string {
	if k.Number != 0 {
		return fmt.Sprintf("%s %s#%d", k.Forge, k.Repository, k.Number)
	}
	return fmt.Sprintf("%s %s:%s", k.Forge, k.Repository, k.Branch)
}

// account of the forge that limits are counted for, more or less.
func (k Key) account() string { return k.Forge + " " + k.Repository.Owner }
