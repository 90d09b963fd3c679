package plan

import "tekton.host/pkg/resource"

// need is one kind that has to be as desired before a put.
type need struct {
	kind resource.Kind
	// host: of the host itself; else of the same owner and, when both name an
	// instance, of the same instance.
	host bool
}

func own(kinds ...resource.Kind) []need {
	ns := make([]need, len(kinds))
	for i, k := range kinds {
		ns[i] = need{kind: k}
	}
	return ns
}

func host(kinds ...resource.Kind) []need {
	ns := own(kinds...)
	for i := range ns {
		ns[i].host = true
	}
	return ns
}

// The order of creation, as design §3 has it: intent first, rules before the
// link, everything before the start, the route last. What does not depend on
// each other goes at the same time. Everything needs the object's claims.
var putNeeds = map[resource.Kind][]need{
	resource.KindClaim:      nil,
	resource.KindPassword:   own(resource.KindClaim),
	resource.KindVolume:     own(resource.KindClaim),
	resource.KindGCRoot:     own(resource.KindClaim),
	resource.KindInstance:   own(resource.KindClaim, resource.KindDump),
	resource.KindRecord:     own(resource.KindClaim),
	resource.KindException:  append(own(resource.KindClaim), host(resource.KindTable, resource.KindPolicy)...),
	resource.KindRole:       append(own(resource.KindClaim, resource.KindPassword), host(resource.KindCluster)...),
	resource.KindDatabase:   append(own(resource.KindClaim, resource.KindRole), host(resource.KindCluster)...),
	resource.KindDump:       append(own(resource.KindClaim, resource.KindDatabase), host(resource.KindCluster)...),
	resource.KindAccess:     append(own(resource.KindClaim, resource.KindDatabase), host(resource.KindCluster)...),
	resource.KindEndpoint:   append(own(resource.KindClaim), host(resource.KindTable, resource.KindPolicy)...),
	resource.KindLink:       append(own(resource.KindClaim, resource.KindEndpoint), host(resource.KindTable, resource.KindPolicy)...),
	resource.KindAttachment: append(own(resource.KindUnit, resource.KindLink), host(resource.KindAddress)...),
	resource.KindSetup:      own(resource.KindUnit, resource.KindAttachment),
	resource.KindAnswer:     own(resource.KindUnit, resource.KindAttachment),
	resource.KindGate:       append(own(resource.KindClaim), host(resource.KindActivator)...),
	resource.KindRoute:      append(own(resource.KindClaim, resource.KindGate), host(resource.KindProxy)...),
	resource.KindUnit: append(
		own(resource.KindClaim, resource.KindGCRoot, resource.KindVolume, resource.KindAccess, resource.KindEndpoint, resource.KindException,
			resource.KindInstance, resource.KindLink),
		host(resource.KindTable, resource.KindPolicy, resource.KindAddress, resource.KindSysctl)...),

	// Of the host itself: the claim that keeps a setting's original is written by the driver.
	resource.KindSysctl:    nil,
	resource.KindAddress:   nil,
	resource.KindTable:     nil,
	resource.KindPolicy:    nil,
	resource.KindCluster:   host(resource.KindAddress),
	resource.KindResolver:  host(resource.KindAddress),
	resource.KindActivator: host(resource.KindAddress),
	resource.KindProxy:     nil,
	resource.KindClosure:   nil,
	resource.KindCheckout:  nil,
}

// deleteNeeds lists what must be gone, of the same owner (and instance), before
// a thing goes: the reverse of creation, rules last.
var deleteNeeds = map[resource.Kind][]resource.Kind{
	resource.KindRoute:      nil,
	resource.KindRecord:     nil,
	resource.KindException:  {resource.KindUnit},
	resource.KindSetup:      nil,
	resource.KindGate:       {resource.KindRoute},
	resource.KindUnit:       {resource.KindRoute, resource.KindGate},
	resource.KindAttachment: {resource.KindUnit},
	resource.KindLink:       {resource.KindUnit},
	resource.KindEndpoint:   {resource.KindUnit, resource.KindAttachment, resource.KindLink},
	resource.KindAccess:     {resource.KindUnit},
	resource.KindDatabase:   {resource.KindUnit, resource.KindAccess},
	resource.KindDump:       nil, // the trash's own, when there are too many
	resource.KindRole:       {resource.KindDatabase},
	resource.KindPassword:   {resource.KindRole},
	resource.KindVolume:     {resource.KindUnit},
	resource.KindInstance:   {resource.KindSetup, resource.KindUnit, resource.KindAttachment, resource.KindLink, resource.KindEndpoint},
	resource.KindGCRoot:     {resource.KindUnit, resource.KindInstance},
	resource.KindClaim:      nil,

	// Of the host itself: when nothing of any object stands on it.
	resource.KindSysctl:    {resource.KindLink, resource.KindAttachment},
	resource.KindAddress:   {resource.KindLink, resource.KindAttachment, resource.KindCluster, resource.KindResolver, resource.KindActivator},
	resource.KindTable:     {resource.KindLink, resource.KindAttachment, resource.KindEndpoint, resource.KindException},
	resource.KindPolicy:    {resource.KindLink, resource.KindAttachment, resource.KindEndpoint, resource.KindException},
	resource.KindCluster:   {resource.KindRole, resource.KindAccess},
	resource.KindResolver:  {resource.KindRecord, resource.KindUnit},
	resource.KindActivator: {resource.KindGate},
	resource.KindProxy:     {resource.KindRoute},
	resource.KindClosure:   nil, // what runs has a root of its own
	resource.KindCheckout:  nil,
}
