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

check changes nothing, and may run beside a server. The first push creates the
dataset, the tables, the views and the pipeline's record if they do not exist. So it is
a problem only if they cannot be created. (To find out whether documents may be
written, check tries a commit that is always refused.)

The permissions are those of the credentials that check finds. Often they are a
person's. To check as the account of the service, log in as that account. You need the
role iam.serviceAccountTokenCreator on it:

  gcloud auth application-default login --impersonate-service-account=ACCOUNT

Exits with 1 if there is a problem. A warning is no problem: pushes and flushes work,
or check could not find out whether they do.`,
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
