package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/check"
)

func checkCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Look for everything that a first push would need",
		Long: `Look for everything that a first push would need, with the settings as they are:
the data directory and its files, or credentials, permissions, the dataset with its
tables and views, the database with its indexes and TTL, and whether the settings fit
the pipeline on record. Print a line for each check, and under what is missing what
to do about it.

Nothing is changed, and it may run beside a server. Tables, views, dataset and the
pipeline's record are made by the first push where they do not exist, so that is no
problem if they can be. (Whether documents may be written is tried with a commit that
is always refused.)

The permissions are those of the credentials that are found, often a person's. To
check as the account that the service runs as, log in as it, which needs the role
iam.serviceAccountTokenCreator on it:

  gcloud auth application-default login --impersonate-service-account=ACCOUNT

Exits with 1 if there is a problem. A warning is none: pushes and flushes work, or
whether they do could not be found out.`,
		Example: `  tidemark check
  BACKEND=gcp GOOGLE_CLOUD_PROJECT=my-project tidemark check --firestore-database tidemark`,
		Args: arguments(cobra.NoArgs),
	}
	settings := settingsFlags(cmd, p, settingsOptions{})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := settings()
		if err != nil {
			return err
		}
		return printFindings(p, check.Run(cmd.Context(), s))
	}
	return cmd
}

// printFindings prints each finding with what to do about it below, and then one line
// with the numbers of problems and warnings on stderr.
func printFindings(p process, findings []check.Finding) error {
	found := map[check.Level]int{}
	for _, f := range findings {
		found[f.Level]++
		if err := printFinding(p.stdout, f); err != nil {
			return fmt.Errorf("print the findings: %w", err)
		}
	}
	problems, warnings := found[check.Problem], found[check.Warning]
	fmt.Fprintf(p.stderr, "checks: %d, problems: %d, warnings: %d\n", len(findings), problems, warnings)
	if problems > 0 {
		return errNo
	}
	return nil
}

func printFinding(out io.Writer, f check.Finding) error {
	const indent = "         "
	if _, err := fmt.Fprintf(out, "%-8s %s\n", f.Level, f.What); err != nil {
		return err
	}
	for _, do := range f.Do {
		if _, err := fmt.Fprintf(out, "%s%s\n", indent, strings.ReplaceAll(do, "\n", "\n"+indent)); err != nil {
			return err
		}
	}
	return nil
}
