// Package infra has no Go code. It has the Terraform files of a deployment, and tests that
// compare them with the program. README.md says how to deploy.
package infra

//go:generate go test -run TestTables -update .
