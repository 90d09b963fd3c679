package spec

// Reasons of problems.
const (
	ReasonParseError    = "ParseError"    // not YAML, or beyond a limit
	ReasonUnknownKind   = "UnknownKind"   // apiVersion or kind that this tekton does not know, or not here
	ReasonUnknownField  = "UnknownField"  // also: wrong case
	ReasonDuplicateKey  = "DuplicateKey"  // one mapping, one key, two values
	ReasonWrongType     = "WrongType"     // a number where a text belongs ...
	ReasonInvalidValue  = "InvalidValue"  // right type, wrong value, or a value is missing
	ReasonDuplicateName = "DuplicateName" // two objects of one name
	ReasonSourcePolicy  = "SourcePolicy"  // the source may not ask for it
)

// Limits of what is read.
const (
	MaxFile      = 1 << 20 // bytes of a file
	MaxDocuments = 1000    // of a file
	MaxDepth     = 64      // of nesting
	MaxAliased   = 10_000  // values of a document that come from aliases
	MaxProblems  = 100     // reported of a file
)
