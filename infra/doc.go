// Package infra has no code: it is the Terraform of a deployment, and the tests that
// hold it to the program. README.md says how it is used.
package infra

//go:generate go test -run TestTables -update .
