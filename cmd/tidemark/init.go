package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/internal/lab/replay"
	"github.com/tidemark-dev/tidemark/pipeline"
)

func initCommand(p process) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "init [--from FILE|-]",
		Short: "Print a pipeline file, which says what an event is and what is counted",
		Long: `Print a pipeline file to start from. A server that is started with its path in
PIPELINE_FILE stores events in the columns that the file names, and counts them.

Without --from it is the built-in file, of the streaming lab's access log, with
comments. With --from it is guessed from sample events: a file of bare events or of
push bodies, one a line, gzip or not, or - for standard input. A comment beside each
guess says what it rests on.`,
		Example: `  tidemark init > pipeline.yaml
  tidemark init --from orders.ndjson > orders.yaml
  gcloud pubsub subscriptions pull SUB --limit 1000 --format=json | jq -r '.[].message.data | @base64d' | tidemark init --from -`,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			text, err := pipeline.Lab, error(nil)
			if from != "" {
				text, err = guessPipeline(from, p)
			}
			if err != nil {
				return err
			}
			_, err = io.WriteString(p.stdout, text)
			return err
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "file of sample events, one a line, or - for standard input")
	return cmd
}

// guessPipeline returns a pipeline file for the events in the named file. The pipeline is
// named after that file.
func guessPipeline(name string, p process) (string, error) {
	input, closeInput, err := openInput(name, p)
	if err != nil {
		return "", err
	}
	defer closeInput()
	var guess pipeline.Inference
	for data, err := range replay.Events(input) {
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		guess.Add(data)
	}
	base, _, _ := strings.Cut(filepath.Base(name), ".")
	text, err := guess.File(base)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return text, nil
}
