package emulator

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
)

// QueryBigQuery runs a query in the way that a program other than Tidemark would. It
// returns the rows as values by column name, with times in UTC. The host is the
// emulator's REST side. A table name without a dataset is a table of the given dataset.
func QueryBigQuery(ctx context.Context, restHost, project, dataset, sql string) ([]map[string]any, error) {
	rows, err := queryBigQuery(ctx, restHost, project, dataset, sql)
	if err != nil {
		return nil, fmt.Errorf("query dataset %s.%s: %w: %s", project, dataset, err, sql)
	}
	return rows, nil
}

func queryBigQuery(ctx context.Context, restHost, project, dataset, sql string) ([]map[string]any, error) {
	client, err := bigquery.NewClient(ctx, project,
		option.WithEndpoint("http://"+restHost+"/bigquery/v2/"), option.WithHTTPClient(http.DefaultClient))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	client.Location = "US" // without a location the emulator cannot find the job afterwards
	q := client.Query(sql)
	q.DefaultProjectID, q.DefaultDatasetID = project, dataset
	job, err := q.Run(ctx) // not q.Read: it calls jobs.query, which the emulator answers without rows
	if err != nil {
		return nil, err
	}
	found, err := job.Read(ctx)
	if err != nil {
		// If a job failed, the emulator says at this point that the job does not exist.
		// The job's status has the real error.
		if status, statusErr := job.Status(ctx); statusErr == nil && status.Err() != nil {
			err = status.Err()
		}
		return nil, err
	}
	var rows []map[string]any
	for {
		var values map[string]bigquery.Value
		if err := found.Next(&values); errors.Is(err, iterator.Done) {
			return rows, nil
		} else if err != nil {
			return nil, err
		}
		row := map[string]any{}
		for name, value := range values {
			row[name] = value
		}
		rows = append(rows, row)
	}
}
