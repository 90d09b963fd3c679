package preview

import (
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
)

const (
	// metaFile is what messages call the place of a previewMeta's mistakes.
	metaFile = "system.build.previewMeta"
	// builtUser is who a preview-config.nix has its setup and checkout be of.
	builtUser = "preview"
	// builtDeadline of a setup or seed, whose own timeout is its unit's.
	builtDeadline = 30 * time.Minute

	// builtPath has the programs of a NixOS: systemd's own has not.
	builtPath = "/run/wrappers/bin:/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin"

	// rebuildFile tells a setup that it is to work although it has before: at a new
	// start of the machine, where it is not there, it need not.
	rebuildFile = "/tmp/force-rebuild"
)

// readMeta reads what a built preview-config.nix says of itself.
func readMeta(p *v1alpha1.Preview, h *v1alpha1.HostSpec, r Revision) (*application, []spec.Problem) {
	var app *application
	meta := &v1alpha1.PreviewMeta{}
	problems := spec.DecodeFile(metaFile, []byte(*r.Config), meta, func() field.ErrorList {
		app = &application{file: meta.File(), system: v1alpha1.System{StorePath: r.StorePath}, meta: meta}
		return meta.Validate(h, p.Spec.Grants)
	})
	return app, problems
}

// builtUnits are those of the system itself. Its setup clones the repository, or
// finds the checkout where it asks for that.
// seed is the Preview's own; nil: that of the system, if it has one.
func builtUnits(s *v1alpha1.SetupSpec, meta *v1alpha1.PreviewMeta, seed *v1alpha1.PreviewSetup, r Revision) {
	s.Unit, s.Seed, s.Services = meta.Units()
	s.Deadline = v1alpha1.Duration{Duration: builtDeadline}
	// Whoever the setup and the services are in there, they are the application.
	s.Files[0].User, s.Files[0].Mode = "", 0o444
	s.Files = append(s.Files, v1alpha1.SetupFile{Path: rebuildFile, Mode: 0o644, User: builtUser, Signal: true})
	if meta.Checkout {
		s.Checkout = &v1alpha1.SetupCheckout{Dir: r.Dir, Commit: r.Commit, Path: Checkout, User: builtUser}
	}
	switch {
	case seed != nil && meta.Database == "host":
		s.Seed = seedUnit
		s.Files = append(s.Files, builtOnce(seedUnit, seedDescription, meta.Checkout, seed))
		s.Deadline.Duration += seed.Timeout.Duration
	case s.Seed != "":
		s.Deadline.Duration += builtDeadline
	}
}
