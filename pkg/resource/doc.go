// Package resource holds the value types of what tekton owns on a host: the
// vocabulary that compile, plan, the engine and the drivers share.
//
// A Resource is one thing on the host with an identity (Kind and Name), an
// owner and a value. The same types describe what is desired and what was
// observed, so that planning is a comparison of two plain values.
//
// Invariants:
//   - (Kind, Name) is unique on a host; Name is the name of the real thing
//     (the link's name, the database's name), never a second identity.
//   - Value.Equal compares what was asked for. State that only an observation
//     has (a PID, an exit code) takes no part in it.
//   - A kind that could not be observed is a Domain with Err set; it never
//     looks like an empty one.
package resource
