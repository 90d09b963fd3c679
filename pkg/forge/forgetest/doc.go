// Package forgetest is a forge for tests and demonstrations: what we use of
// GitHub's API over HTTP, with its pages, rate limits and refusals, and signed
// deliveries to webhooks. Below /api/v3 it answers as GitHub Enterprise does,
// below /api/v1 as Forgejo.
//
// Its contract is contract_test.go: each answer as GitHub documents it, and the
// usual Go client of GitHub's API understands it.
package forgetest
