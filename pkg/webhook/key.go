package webhook

import (
	"fmt"

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

// String is FORGE OWNER/NAME#NUMBER or FORGE OWNER/NAME:BRANCH.
func (k Key) String() string {
	if k.Number != 0 {
		return fmt.Sprintf("%s %s#%d", k.Forge, k.Repository, k.Number)
	}
	return fmt.Sprintf("%s %s:%s", k.Forge, k.Repository, k.Branch)
}

// account of the forge that limits are counted for, more or less.
func (k Key) account() string { return k.Forge + " " + k.Repository.Owner }
