// Package compile turns objects and facts into desired resources.
//
// It is pure: no I/O, no clock (Now is a fact), no randomness. The same input
// gives the same output, byte for byte, whatever the order of its objects.
//
// Facts are what is known only after something was done: the claims of the
// ledger, the secrets at hand, what the host was seen to have. Nothing waits
// here: what is not known yet is left out, with a Note that says why, and the
// next pass compiles again.
//
// Three values: a resource in Desired.Present is to exist. One that is held,
// or whose owner is not in Desired.Complete, is left as it is. Everything
// else of an owner in Desired.Complete is to be absent.
package compile
